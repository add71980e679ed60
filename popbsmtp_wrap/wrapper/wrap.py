"""popbsmtp-wrap: record the client's address, then become the mail program.

    popbsmtp-wrap [--config FILE] [--socket PATH] [--wait SECONDS] [--service NAME] [--]
                  PROGRAM [ARG...]

Reads IP and LOCAL_IP, else TCPREMOTEIP and TCPLOCALIP, and USER; a login with MASTER_USER or with
AUTH_MECH=ANONYMOUS is not recorded. Writes nothing to stdout, which is the client's socket; execs
PROGRAM with its arguments and the environment unchanged whatever else happens, within --wait
seconds (default: wrapper.wait of the configuration, 2 s). Exit status: PROGRAM's; 111 when PROGRAM
cannot be executed; 64 (EX_USAGE) without PROGRAM. The login goes to the recorder's socket when one
listens there, otherwise to one that the first login starts and that stays for a while (linger.py).
"""

# posix and _socket, not os and socket: saves 1 and 6 of 12 ms per login (bench/startup.py).
import _signal  # type: ignore[import-not-found]  # typeshed has signal alone
import _socket
import posix
import sys
from time import monotonic

from popbsmtp_wrap.address import canonical_address, never_counts
from popbsmtp_wrap.wire import LONGEST_LINE, format_request, parse_answer, read_clocks

TYPE_CHECKING = False  # as typing's, without its price
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

DEFAULT_CONFIG = "/etc/popbsmtp/popbsmtp.toml"
DEFAULT_SOCKET = "/run/popbsmtp/login.sock"
DEFAULT_WAIT_S = 2.0
LONGEST_WAIT_S = 50.0  # Dovecot gives up on a post-login script after 60 s (master-login.h)
OPTIONS = ("--config", "--socket", "--wait", "--service")
USAGE = (
    "usage: popbsmtp-wrap [--config FILE] [--socket PATH] [--wait SECONDS] [--service NAME]"
    " [--] PROGRAM [ARG...]"
)


def main() -> "NoReturn":
    """Record the login that the environment describes and exec the program of the arguments."""
    started = monotonic()
    options: dict[str, str] = {}
    program = _exact_arguments()
    try:
        _fill_standard_descriptors()
        _restore_locale_variable()
        if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        options, program = parse(program)
        if program:
            record(options, program[0], started)
    except Exception as error:  # noqa: BLE001 - the mailbox always opens
        say(f"not recorded: {error!r}")
    if not program:
        say(USAGE)
        posix._exit(64)  # noqa: SLF001 - nothing to flush; EX_USAGE, sysexits.h
    execute(program)


def parse(arguments: "Sequence[str]") -> tuple[dict[str, str], list[str]]:
    """Return (options, program and its arguments); what is unknown is said and skipped."""
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        name, equals, value = rest.pop(0).partition("=")
        if name == "--":
            break
        if name not in OPTIONS:
            say(f"unknown option {ascii(name)[:60]}")
            if "--" in rest:
                del rest[: rest.index("--") + 1]
                break
        elif equals or rest:
            options[name] = value if equals else rest.pop(0)
    return options, rest


def record(options: dict[str, str], program: str, started: float) -> None:
    """Have the login recorded by one recorder or another; say what went wrong."""
    environment = posix.environ
    text, local = environment.get(b"IP"), environment.get(b"LOCAL_IP")
    if not text:
        text, local = environment.get(b"TCPREMOTEIP"), environment.get(b"TCPLOCALIP")
    if not text or environment.get(b"MASTER_USER"):
        return
    try:
        address = canonical_address(text[:100].decode("ascii", "backslashreplace"))
    except ValueError as error:
        say(f"not recorded: {error}")
        return
    if never_counts(address) or is_same_address(address, local):
        return
    if environment.get(b"AUTH_MECH", b"").upper() == b"ANONYMOUS":
        say(f"{address} not recorded: an anonymous login proves nothing")
        return
    name = program.rpartition("/")[2]
    service = _exact(options.get("--service") or (name if name in ("imap", "pop3") else ""))
    request = format_request(address, environment.get(b"USER", b""), service, moment=read_clocks())
    deadline = Deadline(started, options.get("--wait"))
    if (trouble := ask_recorder(request, options.get("--socket"), deadline)) is None:
        return
    from popbsmtp_wrap.wrapper import linger  # here, as a resident recorder makes it needless

    config = _exact(options.get("--config", DEFAULT_CONFIG))
    try:
        word, reason, other = linger.record(request, config, deadline)
    except (TimeoutError, BlockingIOError):
        word, other = "NO", ""
        reason = f"no answer within {deadline.wait_s:g} s; it may still be, in the background"
    trouble = "; ".join(text for text in (trouble, other) if text)
    if word != "OK":
        say(f"{address} not recorded: {reason}" + (f" ({trouble})" if trouble else ""))
    elif trouble:
        say(f"{address} recorded without the recorder: {trouble}")


def is_same_address(address: str, local: bytes | None) -> bool:
    """Tell whether the client has the address of the server that it is connected to."""
    try:
        return canonical_address((local or b"")[:100].decode("ascii")) == address
    except ValueError:
        return False


class Deadline:
    """When the program has to be exec'ed at the latest."""

    def __init__(self, started: float, wait: str | None) -> None:
        self.started = started
        self.wait_s = DEFAULT_WAIT_S
        self.fixed = False
        if wait is not None and not self.move(wait):
            say(f"--wait {ascii(wait)[:60]} is not 0 to {LONGEST_WAIT_S:g} seconds; using 2")
        self.fixed = wait is not None

    def move(self, wait: str) -> bool:
        """Wait *wait* seconds from the start, unless fixed; return False for a bad duration."""
        try:
            wait_s = float(wait.removesuffix("s"))
        except ValueError:
            return False
        # float() takes the digits of every script.
        if not wait.isascii() or not 0 <= wait_s <= LONGEST_WAIT_S:
            return False
        if not self.fixed:
            self.wait_s = wait_s
        return True

    def left_s(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(0.0, self.started + self.wait_s - monotonic())


def ask_recorder(request: bytes, path: str | None, deadline: Deadline) -> str | None:
    """Return None if the recorder took the login, else the reason: "" if none is running."""
    share, name = Deadline(monotonic(), str(deadline.left_s() / 2)), path or DEFAULT_SOCKET
    peer = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        peer.settimeout(share.left_s())
        try:
            peer.connect(_exact(name))
        except BlockingIOError:
            from popbsmtp_wrap.wrapper.full_queue import connect  # here, as it is seldom needed

            connect(peer, _exact(name), share.left_s())
        word, reason = ask(peer, request, share, share)
    except FileNotFoundError:
        return f"no recorder at {path}" if path else ""
    except (TimeoutError, BlockingIOError):
        reason = "no answer in time"
    except (OSError, ValueError) as error:
        reason = str(error)
    else:
        if word == "OK":
            return None
        if word != "NO":
            reason = f"no answer but {ascii(word)[:60]}"
    finally:
        peer.close()
    return f"recorder at {name}: {reason}"


def ask(
    peer: _socket.socket, request: bytes, deadline: Deadline, first: Deadline
) -> tuple[str, str]:
    """Return the answer (word, text) to *request*; something of it has to come before *first*.

    Raise TimeoutError or BlockingIOError at a deadline, another OSError when the peer is gone.
    """
    peer.settimeout(first.left_s())
    try:  # noqa: SIM105 - contextlib costs 2 ms
        peer.sendall(request)
    except BrokenPipeError:
        pass  # it has gone, but may have said why
    if deadline.wait_s == 0:
        return "OK", ""  # who asks for no wait at all knows that it goes on in the background
    received = b""
    # Two lines at most: who sends WAIT for ever may not keep the mailbox closed.
    for _ in range(2):
        while b"\n" not in received:
            peer.settimeout(first.left_s())
            data = peer.recv(LONGEST_LINE)
            if not data or len(received) > LONGEST_LINE:
                raise ConnectionError("it ended without an answer")
            received += data
        line, _, received = received.partition(b"\n")
        word, text = parse_answer(line)
        if word != "WAIT":
            break
        deadline.move(text)
        first = deadline
    return word, text


def execute(program: list[str]) -> "NoReturn":
    """Become *program*; without a slash it is looked up in PATH as execvp(3) does."""
    # Python ignores these two from its start on; a program expects them at their default.
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    arguments = [_exact(argument) for argument in program]
    candidates = arguments[:1]
    if "/" not in program[0]:
        path = posix.environ.get(b"PATH", b"/bin:/usr/bin")
        candidates = [(folder or b".") + b"/" + arguments[0] for folder in path.split(b":")]
    trouble = "no such file"
    for candidate in candidates:
        try:
            posix.execv(candidate, arguments)
        except (FileNotFoundError, NotADirectoryError):
            pass  # in the next directory
        except (OSError, ValueError) as error:
            trouble = str(getattr(error, "strerror", error))
    say(f"cannot execute {ascii(program[0])[:200]}: {trouble}")
    posix._exit(111)  # noqa: SLF001 - nothing to flush; 111 is DJB's "temporary failure"


def say(text: str) -> None:
    """Write one line to stderr, unless that could block."""
    import select  # here, as it is seldom needed

    one_line = "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in text[:800])
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    try:
        if poll.poll(0) == [(2, select.POLLOUT)]:
            posix.write(2, f"popbsmtp-wrap: {one_line}\n".encode("ascii"))
    except OSError:
        pass  # nobody to tell


def _fill_standard_descriptors() -> None:
    """Keep our own descriptors away from 0, 1 and 2 where those are closed, until the exec."""
    try:
        while (null := posix.open("/dev/null", posix.O_RDWR)) <= 2:  # noqa: PLR2004 - stderr
            pass
        posix.close(null)
    except OSError:
        pass  # RLIMIT_NOFILE leaves no room for our own descriptors either


def _exact_arguments() -> list[str]:
    """Return our arguments, so that _exact() gives back the bytes that we were given.

    Python decodes them by the C library's table of the locale and encodes them by its own; those
    differ for Asian character sets, and then nothing could be exec'ed.
    """
    arguments = sys.argv[1:]
    if arguments and sys.getfilesystemencoding() != "utf-8":
        given = _read("/proc/self/cmdline").split(b"\0")[:-1]
        arguments = [a.decode("utf-8", "surrogateescape") for a in given[-len(arguments) :]]
    return arguments


def _exact(argument: str) -> bytes:
    return argument.encode("utf-8", "surrogateescape")


def _restore_locale_variable() -> None:
    """Undo PEP 538, which sets LC_CTYPE=C.UTF-8 where the locale is C, as under Dovecot."""
    if posix.environ.get(b"LC_CTYPE") not in (b"C.UTF-8", b"C.utf8", b"UTF-8"):
        return
    for variable in _read("/proc/self/environ").split(b"\0"):
        if variable.startswith(b"LC_CTYPE="):
            posix.putenv(b"LC_CTYPE", variable[9:])
            return
    posix.unsetenv(b"LC_CTYPE")


def _read(path: str) -> bytes:
    """Return what the file holds, nothing where it cannot be read."""
    content = b""
    try:
        descriptor = posix.open(path, posix.O_RDONLY)
        while chunk := posix.read(descriptor, 1 << 16):
            content += chunk
        posix.close(descriptor)
    except OSError:
        pass
    return content
