"""The addresses of this machine and of its default gateways, as the kernel says.

A login from one of them is somebody else's: webmail on this machine, a proxy that hides its
clients, or a gateway that masquerades them (Docker's, for one). Sources: netlink(7),
rtnetlink(7), linux/rtnetlink.h.
"""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Final

from popbsmtp_wrap.address import canonical_address

# An address may change under a resident
# process (DHCP, a container that joins a network).
_FRESH_S: Final = 10.0
_ANSWER_S: Final = 0.5
# Of routes: a machine with a full table of the Internet has its default routes first.
_MOST_MESSAGES: Final = 20_000

_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWADDR, _RTM_GETADDR, _RTM_NEWROUTE, _RTM_GETROUTE = 20, 22, 24, 26
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_GATEWAY, _RTA_MULTIPATH, _RTA_VIA = 5, 9, 18
_RTN_UNICAST = 1
_NLMSG, _IFADDRMSG, _RTMSG, _RTNEXTHOP, _ATTRIBUTE = (
    struct.Struct(layout) for layout in ("=IHHII", "=BBBBI", "=BBBBBBBBI", "=HBBi", "=HH")
)

Kinds = dict[str, str]


class OwnAddresses:
    """Knows which addresses are this machine's or a default gateway's, a few seconds late."""

    def __init__(self, read: Callable[[], Kinds] | None = None) -> None:
        self._read = read or kinds_by_address
        self._kinds: Kinds = {}
        self._read_at: float | None = None
        # Why they are unknown, None while they are known.
        self.trouble: str | None = None

    def why(self, address: str) -> str | None:
        """Return what canonical *address* is, None when it is not one of them."""
        now = time.monotonic()
        if self._read_at is None or now - self._read_at > _FRESH_S:
            self._read_at = now
            try:
                self._kinds, self.trouble = self._read(), None
            except OSError as error:
                # What was true seconds ago is the better guess.
                self.trouble = error.strerror or str(error)
        return self._kinds.get(address)


def kinds_by_address() -> Kinds:
    """Return this machine's addresses and its default gateways, canonical, with what each is.

    Of all interfaces and routing tables, VRFs included. The other end of a point-to-point link is
    not an own address: it may be a client that dialled in. Raise OSError when the kernel does not
    say.
    """
    kinds: Kinds = {}
    for body in _dump(_RTM_GETROUTE, _RTMSG.pack(*[0] * 9), _RTM_NEWROUTE):
        for gateway in _gateways(body):
            kinds[gateway] = "a default gateway of this machine"
    for body in _dump(_RTM_GETADDR, _IFADDRMSG.pack(0, 0, 0, 0, 0), _RTM_NEWADDR):
        found = dict(_attributes(body[_IFADDRMSG.size :]))
        # IFA_ADDRESS is the peer's where the two differ.
        if address := _text(found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS, b""))):
            kinds[address] = "an address of this machine"
    return kinds


def _gateways(body: bytes) -> Iterator[str]:
    """Yield the gateways of a default route, none of another route."""
    _, destination_length, _, _, _, _, _, kind, _ = _RTMSG.unpack_from(body)
    if destination_length or kind != _RTN_UNICAST:
        return
    found = [body[_RTMSG.size :]]
    for name, value in _attributes(body[_RTMSG.size :]):
        hops = value if name == _RTA_MULTIPATH else b""
        while len(hops) >= _RTNEXTHOP.size:
            length = max(_RTNEXTHOP.size, _RTNEXTHOP.unpack_from(hops)[0])
            found.append(hops[_RTNEXTHOP.size : length])
            hops = hops[_aligned(length) :]
    for attributes in found:
        for name, value in _attributes(attributes):
            # RTA_VIA begins with the gateway's family.
            raw = value if name == _RTA_GATEWAY else value[2:] if name == _RTA_VIA else b""
            if address := _text(raw):
                yield address


def _dump(question: int, body: bytes, wanted: int) -> Iterator[bytes]:
    """Yield the kernel's messages of type *wanted* in answer to a dump. Raise OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asked:
        asked.settimeout(_ANSWER_S)
        flags = _NLM_F_REQUEST | _NLM_F_DUMP
        asked.send(_NLMSG.pack(_NLMSG.size + len(body), question, flags, 1, 0) + body)
        seen = 0
        while seen < _MOST_MESSAGES:
            data = asked.recv(1 << 18)
            while len(data) >= _NLMSG.size:
                length, kind, _, _, _ = _NLMSG.unpack_from(data)
                content, data = (
                    data[_NLMSG.size : length],
                    data[max(_NLMSG.size, _aligned(length)) :],
                )
                seen += 1
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    code = -struct.unpack_from("=i", content)[0]
                    raise OSError(code, f"rtnetlink: error {code}")
                if kind == wanted:
                    yield content


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, name = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            return
        yield name, data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _text(raw: bytes) -> str | None:
    """Return a raw address as logins have it, None for anything else."""
    families = {4: socket.AF_INET, 16: socket.AF_INET6}
    if len(raw) not in families or not any(raw):
        return None
    try:
        return canonical_address(socket.inet_ntop(families[len(raw)], raw))
    except ValueError:
        return None
