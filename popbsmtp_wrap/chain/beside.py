"""Start the process that records a login beside popbsmtp-wrap, when no recorder listens."""

import _signal  # type: ignore[import-not-found]  # typeshed has signal alone
import _socket
import posix
import sys

# Nothing of ours outlives a login by more: the kernel ends the recording process after this.
LONGEST_RECORDING_S = 55
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
main(sys.argv[2])
"""
# All that the recording process gets: a userdb field may not choose libpq's host (PGHOST).
_ENVIRONMENT = {b"PATH": b"/usr/sbin:/usr/bin:/sbin:/bin", b"LC_ALL": b"C.UTF-8"}


def start(config: bytes) -> _socket.socket:
    """Return a socket to a new recording process, which reads the configuration file *config*.

    It is an orphan in its own session and holds no other descriptor of ours: the program that
    this process execs cannot be expected to reap a child it does not know, so init does. Raise
    OSError when there is no room for a process or a socket; what fails later is its answer.
    """
    ours, theirs = _socket.socketpair()
    child = posix.fork()
    if child == 0:
        try:
            _become_recording_process(theirs.fileno(), config)
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


def _become_recording_process(peer: int, config: bytes) -> None:
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
    root = __file__.rsplit("/", 3)[0]
    # Not sys.executable, which PYTHONEXECUTABLE chooses even under -I. Dovecot 1.x starts
    # interpreters without their directory, and PATH may not fill that in.
    python = sys.orig_argv[0]
    if not python.startswith("/"):
        python = posix.readlink("/proc/self/exe")
    arguments: list[bytes | str] = [python, "-I", "-B", "-c", _RECORD, root, config]
    posix.execve(python, arguments, _ENVIRONMENT)
