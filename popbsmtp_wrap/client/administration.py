"""Ask the running recorder what an administrator wants to know or do (protocols/admin.py)."""

import socket
import struct
import time
from collections.abc import Collection
from typing import Final

from popbsmtp_wrap.errors import RefusedError, ServiceUnavailableError
from popbsmtp_wrap.protocols import admin
from popbsmtp_wrap.wire import parse_answer

_ANSWER_S: Final = 10
_TIMEVAL: Final = struct.Struct("ll")  # socket(7)
_LONGEST_ANSWER: Final = 1 << 20


class NobodyListensError(ServiceUnavailableError):
    """There is no socket, or no process that holds it: nobody can have asked there either."""


def ask_status(path: str, limit_s: float = _ANSWER_S) -> str:
    """Return the JSON text of the recorder at *path*, within *limit_s* seconds.

    Raise ServiceUnavailableError when none answers, RefusedError when it will not.
    """
    return _ask(path, "status", [], limit_s)


def tell(
    path: str, word: str, addresses: Collection[str] | None, limit_s: float = _ANSWER_S
) -> None:
    """Send `revoke` or `revoked` for *addresses*, None for all, within *limit_s* seconds.

    Raise as ask_status(): NobodyListensError when there is no recorder at all.
    """
    deadline = time.monotonic() + limit_s
    for arguments in [[admin.ALL]] if addresses is None else admin.portions(addresses):
        _ask(path, word, arguments, max(0.01, deadline - time.monotonic()))


def _ask(path: str, word: str, arguments: list[str], limit_s: float = _ANSWER_S) -> str:
    line, received = admin.request(word, arguments), b""
    shown = path.replace("\0", "@")
    try:
        with socket.socket(socket.AF_UNIX) as peer:
            # Not settimeout(): with that, a full queue is an error at once instead of a wait.
            limit = _TIMEVAL.pack(int(limit_s), int(limit_s % 1 * 1e6))
            for name in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                peer.setsockopt(socket.SOL_SOCKET, name, limit)
            peer.connect(path)
            peer.sendall(line)
            while not received.endswith(b"\n") and len(received) < _LONGEST_ANSWER:
                data = peer.recv(65536)
                if not data:
                    break
                received += data
    except OSError as error:
        advice = "run: systemctl start popbsmtp, or popbsmtp serve"
        if shown != path:
            advice = "is it stopped?"
        nobody = isinstance(error, FileNotFoundError | ConnectionRefusedError)
        kind = NobodyListensError if nobody else ServiceUnavailableError
        raise kind(f"no recorder answers at {shown}: {error.strerror or error}; {advice}") from None
    answer, text = parse_answer(received.rstrip(b"\n"))
    if answer == "NO":
        raise RefusedError(f"the recorder at {shown} refuses: {text}")
    if answer != "OK":
        raise ServiceUnavailableError(f"the recorder at {shown} ended without an answer")
    return text
