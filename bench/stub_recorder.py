"""A recorder that answers OK at once: the least that a login through a resident process costs."""

import contextlib
import socket
import threading
from pathlib import Path
from typing import Self

from popbsmtp_wrap.wire import LONGEST_LINE, format_answer, parse_request


class StubRecorder:
    """A unix socket at *path*; a context manager. *answered* counts the logins."""

    def __init__(self, path: Path) -> None:
        self.answered = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        path.chmod(0o666)
        self._listener.listen(128)
        self._path = path
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                with peer:
                    line = b""
                    while not line.endswith(b"\n"):
                        line += peer.recv(LONGEST_LINE)
                    parse_request(line)
                    peer.sendall(format_answer("OK"))
                    self.answered += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # close() alone would not wake accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink()
