"""The recorder's listening sockets: passed by a service manager, or made here."""

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import secrets
import socket
import stat
from typing import Final

from popbsmtp_wrap import safe_files
from popbsmtp_wrap.config import Recorder, Settings
from popbsmtp_wrap.errors import ConfigError, RefusedError, ServiceUnavailableError
from popbsmtp_wrap.safe_files import Owner

# As many logins wait in the kernel as net.core.somaxconn permits.
BACKLOG: Final = 4096
_PROBE_S: Final = 1.0
_DIRECTORY_MODE: Final = 0o755
# A socket's name until it has its owner and mode.
_NEW: Final = "socket"
_ADVICE: Final = "check the directory and recorder.user, socket_owner, socket_group"


class Listeners:
    """Listening sockets by their path."""

    def __init__(self, passed: dict[str, socket.socket]) -> None:
        """*passed* are kept open and in place whatever happens: logins queue there."""
        self._passed = passed
        self._made: dict[str, tuple[socket.socket, int]] = {}
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
            os.close(lock)
        for listener in self._passed.values():
            listener.close()

    def remove(self, path: str) -> None:
        """Listen at *path* no more, unless the socket was passed."""
        if path not in self._made:
            return
        listener, lock = self._made.pop(path)
        _unlink(path)
        listener.close()
        os.close(lock)


def _make(path: str, recorder: Recorder) -> tuple[socket.socket, int]:
    """Return a listening socket at *path*, and the lock that keeps others from replacing it."""
    owner = _owner(recorder)
    folder, name = os.path.split(path)
    lock = -1
    listener = socket.socket(socket.AF_UNIX)
    try:
        made_for = user_of(recorder) if os.geteuid() == 0 else None
        safe_files.make_directory(folder, _DIRECTORY_MODE, made_for)
        with safe_files.directory(folder) as place:
            lock = safe_files.open_own(f"{name}.lock", os.O_RDWR, 0o600, place=place)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _check_stale(path, place, name)
            _bind(listener, place, name, owner, recorder.socket_mode)
    except BaseException as error:
        listener.close()
        if lock >= 0:
            os.close(lock)
        if isinstance(error, BlockingIOError):
            raise _taken(path) from None
        if isinstance(error, OSError):
            raise RefusedError(f"{path}: {error.strerror or error}; {_ADVICE}") from None
        raise
    return listener, lock


def _bind(listener: socket.socket, place: int, name: str, owner: Owner, mode: int) -> None:
    """Listen at *name* in the directory *place*, in place of what is there. Raise OSError.

    The socket gets owner and mode in a directory that nobody else can write, where nothing can take
    its place meanwhile. Then it replaces the stale one: there is no moment in which Dovecot finds
    none, and none in which others get in.
    """
    private = f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
    os.mkdir(private, 0o700, dir_fd=place)
    try:
        inside = os.open(
            private, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place
        )
        try:
            status = os.fstat(inside)
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
                raise PermissionError(errno.EPERM, "another directory took its place", private)
            # bind(2) knows no dir_fd.
            listener.bind(f"/proc/self/fd/{inside}/{_NEW}")
            try:
                os.chown(_NEW, *owner, dir_fd=inside)
                os.chmod(_NEW, mode, dir_fd=inside)
                listener.listen(BACKLOG)
                os.rename(_NEW, name, src_dir_fd=inside, dst_dir_fd=place)
            except BaseException:
                os.unlink(_NEW, dir_fd=inside)
                raise
        finally:
            os.close(inside)
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(private, dir_fd=place)


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _check_stale(path: str, place: int, name: str) -> None:
    """Return when nobody listens at *path*. Raise RefusedError or ServiceUnavailableError."""
    try:
        if not stat.S_ISSOCK(os.lstat(name, dir_fd=place).st_mode):
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


def user_of(recorder: Recorder) -> Owner:
    """Return uid and gid that the recorder runs as. Raise ConfigError for an unknown user."""
    if os.geteuid() != 0 or not recorder.user:
        return Owner(os.geteuid(), os.getegid())
    try:
        found = pwd.getpwnam(recorder.user)
    except KeyError:
        raise ConfigError(
            f"recorder.user: there is no user {recorder.user!r};"
            f" run: useradd --system --user-group --no-create-home {recorder.user}"
        ) from None
    return Owner(found.pw_uid, found.pw_gid)


def _owner(recorder: Recorder) -> Owner:
    uid, gid = user_of(recorder)
    try:
        if recorder.socket_owner:
            uid = pwd.getpwnam(recorder.socket_owner).pw_uid
        if recorder.socket_group:
            gid = grp.getgrnam(recorder.socket_group).gr_gid
    except KeyError as error:
        raise ConfigError(f"recorder.socket_owner, socket_group: {error.args[0]}") from None
    return Owner(uid, gid)


def allowed_uids(settings: Settings) -> frozenset[int]:
    """Return who may connect: root, the recorder's user and recorder.users. Raise ConfigError."""
    uids = {0, user_of(settings.recorder)[0]}
    for name in settings.recorder.users:
        try:
            uids.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            raise ConfigError(f"recorder.users: there is no user {name!r}") from None
    return frozenset(uids)
