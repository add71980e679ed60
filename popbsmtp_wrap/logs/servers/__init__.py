"""Every server, in the order in which their patterns are tried."""

from typing import Final

from popbsmtp_wrap.logs.pattern import Server
from popbsmtp_wrap.logs.servers.courier import COURIER, COURIER_OWN_LOG
from popbsmtp_wrap.logs.servers.cyrus import CYRUS, CYRUS_OF_ANY_NAME
from popbsmtp_wrap.logs.servers.dovecot import DOVECOT, DOVECOT_LOGIN, DOVECOT_OWN_LOG
from popbsmtp_wrap.logs.servers.others import (
    APPLE,
    CUCIPOP,
    EXCHANGE,
    PERDITION,
    TEAPOP,
    VPOP3D,
    VPOPMAIL,
    ZIMBRA,
)
from popbsmtp_wrap.logs.servers.qpopper import QPOPPER, QPOPPER_OWN_LOG
from popbsmtp_wrap.logs.servers.two_lines import GNU_POP3D, POPA3D, SOLID_POP3D, VM_POP3D
from popbsmtp_wrap.logs.servers.uw import UW

SERVERS: Final[tuple[Server, ...]] = (
    DOVECOT,
    DOVECOT_LOGIN,
    DOVECOT_OWN_LOG,
    COURIER,
    COURIER_OWN_LOG,
    CYRUS,
    CYRUS_OF_ANY_NAME,
    UW,
    QPOPPER,
    QPOPPER_OWN_LOG,
    VPOPMAIL,
    POPA3D,
    SOLID_POP3D,
    VM_POP3D,
    GNU_POP3D,
    VPOP3D,
    CUCIPOP,
    TEAPOP,
    PERDITION,
    APPLE,
    ZIMBRA,
    EXCHANGE,
)
