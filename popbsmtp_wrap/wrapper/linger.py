r"""Ask the recorder that the first login started, or start it.

It listens at an abstract unix socket (unix(7)), which belongs to a network namespace, needs no
directory, and is gone with its last process:

    NUL popbsmtp-recorder-UID-NUMBER-HASH

UID in hexadecimal is the user who records, and HASH is made of the configuration's path, the root
directory and mount namespace that the path is seen from, and wrap.py of the package that runs: who
upgrades gets another recorder. The configuration itself is not looked at here, as it may be on a
file server that hangs. The recorder does that beside each login; when it has changed it answers
AGAIN and makes way for another one.

The name is bound by a wrapper before it forks, so that everybody who comes meanwhile stands in that
queue: one process is started, however many log in at once. Anybody may bind such a name, so the
kernel is asked who did (SO_PEERCRED). One that belongs to somebody else, or whose process takes
requests and gives no answer, makes way for the next NUMBER; behind the last one is a recorder for
this login alone, at a name that the kernel chooses.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has signal alone
import _socket
import posix
import sys
from errno import EADDRINUSE
from time import monotonic, sleep

from popbsmtp_wrap.wire import format_answer
from popbsmtp_wrap.wrapper.wrap import Deadline, ask

PREFIX = "popbsmtp-recorder-"
# The answer of a recorder whose configuration has changed.
AGAIN = "AGAIN"
MOST_NUMBERS = 4
# The kernel ends a recorder that is not up after this: a configuration on a file server that hangs.
LONGEST_START_S = 55
# One was killed with our request, the next may be killed by the same hand.
_MOST_ATTEMPTS = 3
# Of the wrapper's time, what a recorder has for its first word.
_SHARE = 2 / 3
# Between bind() and listen(), and at the end of a recorder, a name refuses connections.
_BETWEEN_S = 0.002
# As many as net.core.somaxconn permits.
_BACKLOG = 4096
# No descriptor is above it: the default of fs.nr_open. RLIMIT_NOFILE may have been lowered.
_HIGHEST_DESCRIPTOR = 1 << 20
# The package of this very wrapper comes first: there may be another version in site-packages.
# Whoever waits hears why it cannot be started; those who come later start another one. The garbage
# collector would look through SQLAlchemy again and again while it is imported (bench/startup.py).
_RECORD = """\
import gc, sys
gc.disable()
sys.path.insert(0, sys.argv[1])
try:
    from popbsmtp_wrap.recorder.lingering import main
    gc.freeze()
    gc.enable()
except BaseException as error:
    import socket
    listener = socket.socket(fileno=0)
    listener.settimeout(0)
    listener.shutdown(socket.SHUT_RD)
    try:
        while True:
            listener.accept()[0].send(f"NO\\t{error!r}\\n".encode("ascii", "backslashreplace"))
    except OSError:
        raise error
main(*sys.argv[2:])
"""
# All that the recorder gets: a userdb field may not choose libpq's host (PGHOST). An arena for each
# thread would take 64 MB of an address space that Dovecot bounds (mallopt(3)).
_ENVIRONMENT = {
    b"PATH": b"/usr/sbin:/usr/bin:/sbin:/bin",
    b"LC_ALL": b"C.UTF-8",
    b"MALLOC_ARENA_MAX": b"1",
}


class _NotOursError(Exception):
    """The name belongs to another user's process."""


class _NotStartedError(Exception):
    """There is no room for a socket or a process, or no right to have one."""


def record(request: bytes, config: bytes, deadline: Deadline) -> tuple[str, str, str]:
    """Return the answer (word, text) of a recorder of our own, and what is wrong with another.

    The last is "" where nothing is. The recorder goes on when the deadline passes. Raise
    TimeoutError or BlockingIOError then.
    """
    try:
        config = _absolute(config)
    except OSError:
        shown = config.decode("utf-8", "backslashreplace")
        return "NO", f"{shown} does not exist, nor does the working directory", ""
    try:
        base = _name(config)
    except OSError as error:
        return "NO", f"no recording process: {error}", ""
    # Until one is known to hang. On a busy machine it may only be slow to start; what is left has
    # to do for the start of another.
    first, hung, trouble = Deadline(monotonic(), str(deadline.left_s() * _SHARE)), False, ""
    for number in range(MOST_NUMBERS + 1):
        name = base % number if number < MOST_NUMBERS else b""
        try:
            return (*_ask_at(name, request, config, first, deadline), trouble)
        except _NotOursError as error:
            trouble = str(error)
        except (TimeoutError, BlockingIOError):
            if hung or not deadline.left_s():
                raise
            first, hung = deadline, True
            trouble = f"no answer from the recorder at @{name[1:].decode()}"
        except ConnectionError:
            return "NO", "the recorder ended without an answer", trouble
        except (OSError, _NotStartedError) as error:
            return "NO", f"no recording process: {error}", trouble
    raise AssertionError  # nobody else can have the last one


def refuse(listener: _socket.socket, reason: str) -> None:
    """Stop listening, and answer NO to everybody in the queue."""
    try:
        listener.settimeout(0)
        listener.shutdown(_socket.SHUT_RD)
        while True:
            peer, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - as socket.accept() does
            posix.write(peer, format_answer("NO", reason))
    except OSError:
        pass  # that was the last one


def _name(config: bytes) -> bytes:
    """Return the name for the configuration at absolute *config*, with %d for its number.

    Raise OSError.
    """
    root, code = posix.stat("/"), posix.stat(__file__.rsplit("/", 1)[0] + "/wrap.py")
    try:
        namespace = posix.readlink(b"/proc/self/ns/mnt")
    except OSError:
        namespace = b""  # no /proc
    texts = (int.from_bytes(text, "big") for text in (config, namespace))
    # Python seeds the hashes of texts, not those of numbers.
    what = (*texts, root.st_dev, root.st_ino, code.st_ino, code.st_mtime_ns)
    return b"\0%s%x-%%d-%x" % (PREFIX.encode(), posix.geteuid(), hash(what) & 0xFFFFFFFFFFFFFFFF)


def _absolute(path: bytes) -> bytes:
    return path if path.startswith(b"/") else posix.getcwdb() + b"/" + path


def _ask_at(
    name: bytes, request: bytes, config: bytes, first: Deadline, deadline: Deadline
) -> tuple[str, str]:
    """Return the answer of the recorder at *name*, which may have to be started.

    One that was there before has to show that it lives before *first*. Raise as record() does,
    _NotOursError, and _NotStartedError when no recorder can be started.
    """
    for attempt in range(1, _MOST_ATTEMPTS + 1):
        peer, is_new = _connect(name, config, first)
        try:
            word, text = ask(peer, request, deadline, deadline if is_new else first)
        except ConnectionError:
            # It was killed, or ended just now: what it did not answer belongs to the next one.
            if attempt == _MOST_ATTEMPTS or not name:
                raise
        else:
            if word != AGAIN:
                return word, text
        finally:
            peer.close()
    raise ConnectionError


def _connect(name: bytes, config: bytes, first: Deadline) -> tuple[_socket.socket, bool]:
    """Return a connection to a recorder at *name*, and whether we have started it.

    Raise as _ask_at() does.
    """
    while True:
        peer = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            if name and _reaches(peer, name, first):
                return peer, False
            if _starts(peer, name, config):
                return peer, True
        except BaseException:
            peer.close()
            raise
        peer.close()
        if not first.left_s():
            raise TimeoutError
        sleep(_BETWEEN_S)


def _reaches(peer: _socket.socket, name: bytes, first: Deadline) -> bool:
    """Connect *peer* to *name*; return False when nobody listens there. Raise _NotOursError."""
    peer.settimeout(first.left_s())
    try:
        peer.connect(name)
    except ConnectionRefusedError:
        return False
    except BlockingIOError:
        from popbsmtp_wrap.wrapper.full_queue import connect  # here, as it is seldom needed

        connect(peer, name, first.left_s())
    # struct ucred: pid, uid, gid (unix(7)); of the process that listened first.
    owner = peer.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    uid = int.from_bytes(owner[4:8], sys.byteorder)
    if uid != posix.geteuid():
        raise _NotOursError(f"@{name[1:].decode('ascii')} belongs to user {uid}")
    return True


def _starts(peer: _socket.socket, name: bytes, config: bytes) -> bool:
    """Start a recorder at *name* and connect *peer* to it; return False if somebody else does.

    Raise _NotStartedError.
    """
    try:
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            # b"" has the kernel choose a name (autobind, unix(7)).
            listener.bind(name)
            listener.listen(_BACKLOG)
            peer.settimeout(None)
            # Before it runs: it need not wait for a login, and can say why it does not start.
            peer.connect(listener.getsockname())
            _start(listener, config, "linger" if name else "once")
        finally:
            listener.close()
    except OSError as error:
        if error.errno == EADDRINUSE:
            return False
        raise _NotStartedError(str(error)) from None
    return True


def _start(listener: _socket.socket, config: bytes, life: str) -> None:
    """Start a recorder that serves *listener*, with the configuration file *config*.

    It is an orphan in its own session and holds no other descriptor of ours: the program that
    this process execs cannot be expected to reap a child it does not know, so init does. Raise
    OSError when there is no room for a process; what fails later it answers itself.
    """
    child = posix.fork()
    if child == 0:
        try:
            _become_recorder(listener.fileno(), config, life)
        except OSError as error:
            refuse(_socket.socket(fileno=0), f"no recording process: {error}")
        finally:
            posix._exit(1)  # noqa: SLF001 - never run the parent's code twice
    try:  # noqa: SIM105 - contextlib costs 2 ms
        posix.waitpid(child, 0)
    except ChildProcessError:
        pass  # SIGCHLD is ignored: the kernel has reaped it


def _become_recorder(listener: int, config: bytes, life: str) -> None:
    """Exec the recorder, with *listener* as its stdin; return in the process that forks it."""
    posix.dup2(listener, 0)
    # Before anything is opened: there may be no descriptor left.
    posix.closerange(1, _HIGHEST_DESCRIPTOR)
    posix.setsid()
    if posix.fork():
        return
    for _ in (1, 2):
        posix.set_inheritable(posix.open("/dev/null", posix.O_RDWR), True)
    posix.chdir("/")
    for number in (_signal.SIGALRM, _signal.SIGTERM, _signal.SIGCHLD):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    _signal.alarm(LONGEST_START_S)
    root = __file__.rsplit("/", 3)[0]
    # Not sys.executable, which PYTHONEXECUTABLE chooses even under -I. Dovecot 1.x starts
    # interpreters without their directory, and PATH may not fill that in.
    python = sys.orig_argv[0]
    if not python.startswith("/"):
        python = posix.readlink("/proc/self/exe")
    arguments: list[bytes | str] = [python, "-I", "-B", "-c", _RECORD, root, config, life]
    posix.execve(python, arguments, _ENVIRONMENT)
