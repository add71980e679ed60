"""Networks and sockets that fail on command."""

import contextlib
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Literal, get_args

from .closing import Closing

Mode = Literal["pass", "refuse", "hang"]


class TcpProxy(Closing):
    """A TCP proxy on 127.0.0.1 in front of host:port; a context manager.

    mode: "pass" forwards; "hang" accepts and holds all bytes back until "pass"; "refuse" resets
    the connections and closes the port.
    delay_s: how much later each piece of an answer arrives.
    connections: how many were accepted, in any mode.
    """

    def __init__(self, host: str, port: int, mode: Mode = "pass", delay_s: float = 0) -> None:
        self.delay_s = delay_s
        self.connections = 0
        self.host = "127.0.0.1"
        self.port = 0
        self._target = (host, port)
        self._changed = threading.Condition()
        self._mode: Mode = "refuse"
        self._closed = False
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        # Even a proxy that refuses has a port, which is its own from here on.
        self._listen()
        self.mode = mode

    @property
    def mode(self) -> Mode:
        """What happens to bytes and connections from now on."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"no such mode: {mode}")
        with self._changed:
            self._mode = mode
            self._changed.notify_all()
        if mode == "refuse":
            self._shut()
        elif self._listener is None:
            self._listen()

    def close(self) -> None:
        """Refuse for ever."""
        with self._changed:
            self._closed = True
        self.mode = "refuse"

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen(128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _shut(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            # close() alone would leave the port open for as long as accept() waits in its thread.
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._changed:
            sockets, self._sockets = self._sockets, set()
        for one in sockets:
            _reset(one)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            with self._changed:
                self.connections += 1
                self._sockets.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if not self._may_pass(client):
            return
        try:
            server = socket.create_connection(self._target, timeout=10)
        except OSError:
            _reset(client)
            return
        server.settimeout(None)
        with self._changed:
            self._sockets.add(server)
        back = threading.Thread(target=self._forward, args=(server, client, True), daemon=True)
        back.start()
        self._forward(client, server, False)
        back.join()
        with self._changed:
            self._sockets -= {client, server}
        client.close()
        server.close()

    def _forward(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if answers and self.delay_s:
                    time.sleep(self.delay_s)
                if not self._may_pass(source):
                    return
                target.sendall(data)
            if self._may_pass(source):
                target.shutdown(socket.SHUT_WR)

    def _may_pass(self, one: socket.socket) -> bool:
        """Wait while the mode is "hang"; tell whether the connection is still wanted."""
        with self._changed:
            self._changed.wait_for(lambda: self._mode != "hang" or one not in self._sockets)
            return one in self._sockets


class HangingUnixSocket(Closing):
    """A unix socket at *path* that accepts every connection and never says a word."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections = 0
        self._held: list[socket.socket] = []
        self._listener = _bound(path)
        self._listener.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Hang up and remove the socket."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._held:
            one.close()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._held.append(self._listener.accept()[0])
                self.connections += 1


class RefusingUnixSocket(Closing):
    """A unix socket at *path* that nobody listens on, as a killed daemon leaves it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _bound(path).close()

    def close(self) -> None:
        """Remove the socket."""
        self.path.unlink(missing_ok=True)


def _bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o666)
    return listener


def _reset(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # SO_LINGER on, 0 s: close() sends RST, as the kernel of a host without the server would.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RD)
        one.close()
