"""Connect to a recorder whose queue is full."""

import _socket
from _struct import pack


def connect(peer: _socket.socket, path: bytes, wait_s: float) -> None:
    """Connect *peer* when the queue has room: the kernel waits for that in blocking mode only.

    Raise BlockingIOError when it stays full for *wait_s* seconds, OSError for other reasons.
    """
    # struct timeval; nothing at all would mean for ever (socket(7)).
    seconds, rest_us = divmod(max(1, int(wait_s * 1_000_000)), 1_000_000)
    peer.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, pack("ll", seconds, rest_us))
    peer.settimeout(None)
    peer.connect(path)
