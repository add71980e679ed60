"""The recorder's listening sockets: passed by a service manager, or made here."""

import contextlib
import fcntl
import grp
import os
import pwd
import socket
import stat
from typing import Final, TextIO

from popbsmtp_wrap import values
from popbsmtp_wrap.config import Recorder, Settings
from popbsmtp_wrap.errors import ConfigError, RefusedError, ServiceUnavailableError

# As many logins wait in the kernel as net.core.somaxconn permits.
BACKLOG: Final = 4096
_PROBE_S: Final = 1.0
_DIRECTORY_MODE: Final = 0o755
_ADVICE: Final = "check the directory and recorder.user, socket_owner, socket_group"


class Listeners:
    """Listening sockets by their path."""

    def __init__(self, passed: dict[str, socket.socket]) -> None:
        """*passed* are kept open and in place whatever happens: logins queue there."""
        self._passed = passed
        self._made: dict[str, tuple[socket.socket, TextIO]] = {}
        self._left: set[str] = set()

    @property
    def open(self) -> dict[str, socket.socket]:
        """The sockets that are listened on."""
        return self._passed | {path: listener for path, (listener, _) in self._made.items()}

    def is_ours(self, path: str) -> bool:
        """Tell whether the socket at *path* was made here and ends with us."""
        return path in self._made

    def add(self, recorder: Recorder) -> None:
        """Listen where *recorder* says, too: at all of its sockets or at none more than before.

        Raise ServiceUnavailableError when somebody listens there, RefusedError when it is not
        permitted, ConfigError for an owner or group that does not exist.
        """
        new = [path for path in recorder.sockets if path not in self.open]
        try:
            for path in new:
                self._made[path] = _make(path, recorder)
        except BaseException:
            for path in new:
                self.remove(path)
            raise
        self._left = {place.path for place in recorder.postlogin}

    def close(self) -> None:
        """Listen no more; sockets that were passed go on queueing.

        Post-login sockets stay in place: Dovecot tries for a second to connect to one that nobody
        listens on (net_connect_unix_with_retries), and gives up at once where there is none.
        """
        for path, (listener, lock) in self._made.items():
            if path not in self._left:
                _unlink(path)
            listener.close()
            lock.close()
        for listener in self._passed.values():
            listener.close()

    def remove(self, path: str) -> None:
        """Listen at *path* no more, unless the socket was passed."""
        if path not in self._made:
            return
        listener, lock = self._made.pop(path)
        _unlink(path)
        listener.close()
        lock.close()


def _make(path: str, recorder: Recorder) -> tuple[socket.socket, TextIO]:
    """Return a listening socket at *path*, and the lock that keeps others from replacing it."""
    uid, gid = _owner(recorder)
    lock = None
    listener = socket.socket(socket.AF_UNIX)
    try:
        _make_directory(os.path.dirname(path), recorder)
        lock = open(f"{path}.lock", "w", encoding="ascii")  # noqa: SIM115 - it stays open
        os.fchmod(lock.fileno(), 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _check_stale(path)
        # It replaces the stale one with owner and mode as they should be: there is no moment in
        # which Dovecot finds none, and none in which others get in.
        new = path + values.NEW_SOCKET
        _unlink(new)
        listener.bind(new)
        os.chown(new, uid, gid)
        os.chmod(new, recorder.socket_mode)
        listener.listen(BACKLOG)
        os.rename(new, path)
    except BaseException as error:
        listener.close()
        if lock is not None:
            lock.close()
        if isinstance(error, BlockingIOError):
            raise _taken(path) from None
        if isinstance(error, OSError):
            raise RefusedError(f"{path}: {error.strerror or error}; {_ADVICE}") from None
        raise
    return listener, lock


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _check_stale(path: str) -> None:
    """Return when nobody listens at *path*. Raise RefusedError or ServiceUnavailableError."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise RefusedError(f"{path} exists and is no socket; remove it")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PROBE_S)
            probe.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return
    except TimeoutError:
        pass
    raise _taken(path)


def _taken(path: str) -> ServiceUnavailableError:
    return ServiceUnavailableError(
        f"another recorder listens at {path}, or systemd does for it;"
        " see: popbsmtp status, systemctl status popbsmtp.socket"
    )


def _make_directory(directory: str, recorder: Recorder) -> None:
    if not os.path.isdir(directory):
        os.makedirs(directory, mode=_DIRECTORY_MODE)
        if os.geteuid() == 0:
            os.chown(directory, *user_of(recorder))


def user_of(recorder: Recorder) -> tuple[int, int]:
    """Return uid and gid that the recorder runs as. Raise ConfigError for an unknown user."""
    if os.geteuid() != 0 or not recorder.user:
        return os.geteuid(), os.getegid()
    try:
        found = pwd.getpwnam(recorder.user)
    except KeyError:
        raise ConfigError(
            f"recorder.user: there is no user {recorder.user!r};"
            f" run: useradd --system --user-group --no-create-home {recorder.user}"
        ) from None
    return found.pw_uid, found.pw_gid


def _owner(recorder: Recorder) -> tuple[int, int]:
    uid, gid = user_of(recorder)
    try:
        if recorder.socket_owner:
            uid = pwd.getpwnam(recorder.socket_owner).pw_uid
        if recorder.socket_group:
            gid = grp.getgrnam(recorder.socket_group).gr_gid
    except KeyError as error:
        raise ConfigError(f"recorder.socket_owner, socket_group: {error.args[0]}") from None
    return uid, gid


def allowed_uids(settings: Settings) -> frozenset[int]:
    """Return who may connect: root, the recorder's user and recorder.users. Raise ConfigError."""
    uids = {0, user_of(settings.recorder)[0]}
    for name in settings.recorder.users:
        try:
            uids.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            raise ConfigError(f"recorder.users: there is no user {name!r}") from None
    return frozenset(uids)
