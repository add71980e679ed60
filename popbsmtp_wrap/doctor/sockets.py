"""The recorder's sockets: somebody listens, and a login through each gets its answer."""

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from socket import AF_UNIX, socket
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.doctor.finding import Finding
from popbsmtp_wrap.wire import LONGEST_LINE, format_request, parse_answer

# Loopback never counts, so neither of these is recorded.
_ADDRESS: Final = "127.0.0.1"
_WRAPPERS_LOGIN: Final = format_request(_ADDRESS, b"popbsmtp-doctor", b"")
_REPLY: Final = b"popbsmtp-doctor\tpopbsmtp_doctor=1\n"
_DOVECOTS_LOGIN: Final = (
    f"VERSION\tscript-login\t1\t0\n{_ADDRESS}\t{_ADDRESS}\t".encode("ascii") + _REPLY
)
# The recorder's own limit is reply_timeout; this is for a busy machine.
_SLACK_S: Final = 1.0
_START: Final = "run: systemctl status popbsmtp, or start popbsmtp serve"

Check = Callable[[bytes], str]


def check_sockets(settings: Settings) -> Iterator[Finding]:
    """Yield a finding on each socket that the configuration names."""
    recorder = settings.recorder
    longest_s = recorder.reply_timeout + _SLACK_S
    linger_s = settings.wrapper.linger
    each = "the first login starts one that stays" if linger_s else "each login starts one"
    missing = Finding(
        "ok",
        f"no resident recorder: {each} (docs/performance.md)",
        "for busy sites there is popbsmtp serve, see systemd/",
    )
    if recorder.postlogin:
        missing = Finding("warn", f"{recorder.socket} does not exist: no recorder", _START)
    yield _check(
        recorder.socket, _WRAPPERS_LOGIN, _why_no_wrappers_answer, longest_s, missing=missing
    )
    for place in recorder.postlogin:
        missing = Finding(
            "FAIL",
            f"{place.path} does not exist: no {place.service} login works where Dovecot asks it",
            _START,
        )
        yield _check(place.path, _DOVECOTS_LOGIN, _why_no_reply, longest_s, missing=missing)


def _check(
    path: str, request: bytes, why_wrong: Check, longest_s: float, *, missing: Finding
) -> Finding:
    """Return the finding on the socket *path*; *why_wrong* gives "" for the right answer."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return Finding("FAIL", f"{path} is no socket", "remove it and start popbsmtp serve")
        wrong = why_wrong(_ask(path, request, longest_s))
    except FileNotFoundError:
        return missing
    except PermissionError:
        return Finding("warn", f"{path} is closed for this user", "run this as root")
    except ConnectionRefusedError:
        wrong = "nobody listens"
    except (TimeoutError, BlockingIOError):
        wrong = f"no answer within {longest_s:g} s"
    except OSError as error:
        wrong = str(error)
    if wrong:
        return Finding("FAIL", f"{path}: {wrong}", _START)
    return Finding("ok", f"{path} answers a login")


def _ask(path: str, request: bytes, longest_s: float) -> bytes:
    """Return the answer to *request*, up to its line end or the peer's end.

    Raise OSError; TimeoutError or BlockingIOError when there is no answer in time.
    """
    deadline = time.monotonic() + longest_s
    with socket(AF_UNIX) as peer:
        peer.settimeout(longest_s)
        peer.connect(path)
        # A peer that has gone may have said why.
        with contextlib.suppress(BrokenPipeError):
            peer.sendall(request)
        answer = b""
        while not answer.endswith(b"\n") and len(answer) <= LONGEST_LINE:
            peer.settimeout(max(0.0, deadline - time.monotonic()))
            data = peer.recv(LONGEST_LINE)
            if not data:
                break
            answer += data
    return answer


def _why_no_wrappers_answer(answer: bytes) -> str:
    word, text = parse_answer(answer.removesuffix(b"\n"))
    if word == "OK" and answer.endswith(b"\n"):
        return ""
    return f"it says {word} {text}" if word == "NO" else _why_not(answer)


def _why_no_reply(answer: bytes) -> str:
    return "" if answer == _REPLY else _why_not(answer)


def _why_not(answer: bytes) -> str:
    if not answer:
        return "it ends the connection without an answer"
    return f"it says {answer[:60]!r}, so another program listens"
