"""Have PostgreSQL end a statement that nobody waits for any more.

A backend that waits for a lock, or for a synchronous standby, does not notice that its client has
gone: it keeps its place among max_connections. A cancel request (PostgreSQL's manual, "Canceling
Requests in Progress") opens a connection of its own that counts for nothing.
"""

import contextlib
import ctypes
import threading
from functools import lru_cache
from typing import Any, Final

# A request to a server that is stopped hangs as long as the server does, and holds a thread.
_MOST_AT_ONCE: Final = 4
_places = threading.BoundedSemaphore(_MOST_AT_ONCE)
# libpq writes why a request has failed; what it says helps nobody here.
_ERROR_SIZE: Final = 256


def cancel(connection: Any) -> None:
    """Ask the server to end what it does for a psycopg2 *connection*; waits for nothing.

    psycopg2's own cancel() waits for the server, and keeps every other thread waiting as well.
    """
    try:
        libpq, pointer = _libpq(), connection.pgconn_ptr
        if not pointer or not libpq.PQbackendPID(pointer) or not _places.acquire(blocking=False):
            return
    except (OSError, AttributeError):
        return
    # To be asked for before the connection is closed.
    request = libpq.PQgetCancel(pointer)

    def send() -> None:
        try:
            libpq.PQcancel(request, ctypes.create_string_buffer(_ERROR_SIZE), _ERROR_SIZE)
            libpq.PQfreeCancel(request)
        finally:
            _places.release()

    thread = threading.Thread(target=send, name="cancel", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no room for a thread
        with contextlib.suppress(ValueError):
            _places.release()


@lru_cache(1)
def _libpq() -> Any:
    """Return the libpq that psycopg2 is linked with. Raise OSError or AttributeError."""
    from psycopg2 import _psycopg

    libpq = ctypes.CDLL(_psycopg.__file__)
    libpq.PQbackendPID.argtypes = [ctypes.c_void_p]
    libpq.PQgetCancel.argtypes = [ctypes.c_void_p]
    libpq.PQgetCancel.restype = ctypes.c_void_p
    libpq.PQcancel.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    libpq.PQfreeCancel.argtypes = [ctypes.c_void_p]
    return libpq
