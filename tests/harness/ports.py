"""Loopback ports."""

import random
import socket
from pathlib import Path

HOSTS = ("127.0.0.1", "::1")

# Below net.ipv4.ip_local_port_range (32768 up): no outgoing connection takes a port from there.
_PORTS = range(20000, 32000)


def free_port() -> int:
    """Return a port that is free on 127.0.0.1 and ::1 and that no other test run is given.

    The claim is an abstract unix socket, which the kernel frees with this process.
    """
    for port in random.sample(_PORTS, k=len(_PORTS)):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0pbs-port-{port}")
            for host in HOSTS:
                with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((host, port))
        except OSError:
            claim.close()
            continue
        # Never closed: the claim ends with the process, and silently.
        claim.detach()
        return port
    raise RuntimeError(f"no free port in {_PORTS}")


def listening(port: int) -> bool:
    """Tell whether *port* is listened to on 127.0.0.1 and ::1, without connecting to it.

    A connection would fill the server's log, and a server with a broken part may greet nobody.
    """
    # proc(5), /proc/net/tcp: local_address HEX:PORT is the second field, st 0A is LISTEN.
    return all(
        any(
            fields[1].endswith(f":{port:04X}") and fields[3] == "0A"
            for fields in map(str.split, Path(table).read_text().splitlines()[1:])
        )
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
    )
