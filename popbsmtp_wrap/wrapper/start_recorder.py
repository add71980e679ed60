"""Start the process that records a login beside popbsmtp-wrap, when no recorder listens."""

import _signal  # type: ignore[import-not-found]  # typeshed has signal alone
import _socket
import posix
import sys
from errno import EADDRINUSE
from time import monotonic, sleep

# Nothing of ours outlives a login by more: the kernel ends the recording process after this.
LONGEST_RECORDING_S = 55
# So many processes of a user may have the database open at once, at about 30 MB each: one that
# hangs must not take the memory of a busy host. The spare ones write into the spool alone.
MOST_TRYING = 20
MOST_SPARE = 10
# A fork that has not become Python again yet waits for a place at the cost of a few pages. The
# first of them stop after _PATIENCE_S and go to the spool without one, so that somebody else who
# takes all these names delays logins and loses none; the last _SPREAD_S later.
_LOOK_S = 0.25
_PATIENCE_S = 10
_SPREAD_S = 15
# No descriptor is above it: the default of fs.nr_open. RLIMIT_NOFILE may have been lowered.
_HIGHEST_DESCRIPTOR = 1 << 20
# The package of this very wrapper comes first: there may be another version in site-packages.
_RECORD = """\
import sys
sys.path.insert(0, sys.argv[1])
try:
    from popbsmtp_wrap.recorder.direct import main
except BaseException as error:
    import os
    os.write(0, f"NO\\t{error!r}\\n".encode("ascii", "backslashreplace"))
    raise
main(*sys.argv[2:])
"""
# All that the recording process gets: a userdb field may not choose libpq's host (PGHOST).
_ENVIRONMENT = {b"PATH": b"/usr/sbin:/usr/bin:/sbin:/bin", b"LC_ALL": b"C.UTF-8"}


def start(config: bytes, wait: str) -> _socket.socket:
    """Return a socket to a new recording process, which reads the configuration file *config*.

    *wait* is the number of seconds that the wrapper waits, "" for what the configuration says.
    It is an orphan in its own session and holds no other descriptor of ours: the program that
    this process execs cannot be expected to reap a child it does not know, so init does. Raise
    OSError when there is no room for a process or a socket; what fails later is its answer.
    """
    ours, theirs = _socket.socketpair()
    child = posix.fork()
    if child == 0:
        try:
            _become_recording_process(theirs.fileno(), config, wait)
        except OSError as error:
            text = f"NO\tno recording process: {error}\n"
            posix.write(0, text.encode("ascii", "backslashreplace"))
        finally:
            posix._exit(1)  # noqa: SLF001 - never run the parent's code twice
    theirs.close()
    try:  # noqa: SIM105 - contextlib costs 2 ms
        posix.waitpid(child, 0)
    except ChildProcessError:
        pass  # SIGCHLD is ignored: the kernel has reaped it
    return ours


def take_place(numbers: range) -> _socket.socket | None:
    """Return one of the places *numbers*, None when all are taken. Raise OSError.

    A place is the name of an abstract socket, which the kernel frees with the process (unix(7)).
    """
    place = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    for number in numbers:
        try:
            place.bind(f"\0popbsmtp-recording-{posix.geteuid()}-{number}")
        except OSError as error:
            if error.errno != EADDRINUSE:
                place.close()
                raise
        else:
            return place
    place.close()
    return None


def _wait_for_place() -> tuple[_socket.socket | None, bool]:
    """Return a place, and whether it is one to try the database from."""
    deadline = monotonic() + _PATIENCE_S + posix.getpid() % (_SPREAD_S + 1)
    while True:
        if place := take_place(range(MOST_TRYING)):
            return place, True
        if place := take_place(range(MOST_TRYING, MOST_TRYING + MOST_SPARE)):
            return place, False
        if monotonic() > deadline:
            return None, False
        sleep(_LOOK_S)


def _become_recording_process(peer: int, config: bytes, wait: str) -> None:
    """Exec the recording process, with *peer* as its stdin; return in those who fork it."""
    posix.dup2(peer, 0)
    # Before anything is opened: there may be no descriptor left.
    posix.closerange(1, _HIGHEST_DESCRIPTOR)
    posix.setsid()
    if posix.fork():
        return
    for _ in (1, 2):
        posix.set_inheritable(posix.open("/dev/null", posix.O_RDWR), True)
    if not config.startswith(b"/"):
        config = posix.getcwdb() + b"/" + config
    posix.chdir("/")
    for number in (_signal.SIGALRM, _signal.SIGTERM, _signal.SIGCHLD):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    _signal.alarm(LONGEST_RECORDING_S)
    place, may_try = _wait_for_place()
    descriptor = -1
    if place:
        descriptor = place.detach()
        posix.set_inheritable(descriptor, True)
    root = __file__.rsplit("/", 3)[0]
    # Not sys.executable, which PYTHONEXECUTABLE chooses even under -I. Dovecot 1.x starts
    # interpreters without their directory, and PATH may not fill that in.
    python = sys.orig_argv[0]
    if not python.startswith("/"):
        python = posix.readlink("/proc/self/exe")
    arguments: list[bytes | str] = [python, "-I", "-B", "-c", _RECORD, root, config]
    arguments += [wait, str(descriptor), "try" if may_try else "spare"]
    posix.execve(python, arguments, _ENVIRONMENT)
