"""Mail clients of a throwaway machine: in a network of their own at the end of a cable."""

import json
from dataclasses import dataclass

from tests.harness.machine import Machine

USER, PASSWORD = "alice", "wonderland"

_CLIENT = """
import imaplib, json, poplib, smtplib, sys
action, client, server, user, password = sys.argv[1:]
if action == "imap":
    session = type("From", (imaplib.IMAP4,), {"_create_socket":
        lambda self, timeout=None: __import__("socket").create_connection(
            (server, 143), 20, (client, 0))})(server)
    session.login(user, password)
    print(json.dumps(session.select("INBOX")[0]))
    session.logout()
elif action == "pop3":
    session = type("From", (poplib.POP3,), {"_create_socket":
        lambda self, timeout=None: __import__("socket").create_connection(
            (server, 110), 20, (client, 0))})(server)
    session.user(user)
    print(json.dumps(session.pass_(password).decode()))
    session.quit()
else:
    session = smtplib.SMTP(server, 25, "client.example.net", 90, (client, 0))
    session.ehlo()
    session.mail("alice@example.org")
    print(json.dumps(session.rcpt("someone@elsewhere.example")[0]))
    session.quit()
"""

# A client must not have an address of the machine itself: logins from those do not count.
_CABLE = """
[ -e /run/clients ] || {
    touch /run/clients
    unshare --net=/run/clients true
    ip link add clients type veth peer name server netns /run/clients
    ip link set clients up
    ip address add 169.254.99.1/30 dev clients
    ip address add fe80::1/64 dev clients nodad
    nsenter --net=/run/clients sh -e -c '
        ip link set lo up; ip link set server up
        ip address add fe80::2/64 dev server nodad
        ip address add 169.254.99.2/30 dev server
        ip route add default via 169.254.99.1
        ip -6 route add default via fe80::1 dev server'
    echo 1 > /proc/sys/net/ipv4/ip_forward
    echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
}
"""


def _move(address: str) -> str:
    """Return a script that takes *address* from the machine to the clients, once."""
    length, via = (128, "via fe80::2") if ":" in address else (32, "")
    nodad = "nodad" if ":" in address else ""
    return f"""
if ip address del {address}/{length} dev lo 2>/dev/null; then
    nsenter --net=/run/clients ip address add {address}/{length} dev server {nodad}
    ip route add {address}/{length} {via} dev clients
fi
"""


def connect(machine: Machine, *addresses: str) -> None:
    """Give *addresses* of the machine to its clients: before a service takes them for its own."""
    machine.run(_CABLE + "".join(map(_move, addresses)))


@dataclass(frozen=True)
class Client:
    """A client at *address*, seen by *server* as a TCP peer."""

    machine: Machine
    address: str
    server: str

    def login(self, service: str) -> None:
        """Read mail by imap or pop3. Raise RuntimeError when that does not work."""
        self._run(service)

    def relay(self) -> int:
        """Return the reply code to a recipient elsewhere."""
        return int(self._run("smtp"))

    def _run(self, action: str) -> str:
        connect(self.machine, self.address)
        words = f"{action} {self.address} {self.server} {USER} {PASSWORD}"
        program = f"nsenter --net=/run/clients /usr/bin/python3 - {words}"
        return json.loads(self.machine.run(program, text=_CLIENT))


def prepare_dovecot(machine: Machine) -> None:
    """Add a user, and let clients log in without TLS, as the old ones that need this do."""
    machine.run(
        f"useradd --create-home {USER}; echo {USER}:{PASSWORD} | chpasswd\n"
        f"install -o {USER} -g mail -m 600 /dev/null /var/mail/{USER}\n"
        # Debian's package makes a certificate only where ssl-cert is installed, too.
        "sed -i '/^ssl_cert\\|^ssl_key/d' /etc/dovecot/conf.d/10-ssl.conf\n"
        "printf 'ssl = no\\ndisable_plaintext_auth = no\\n' > /etc/dovecot/conf.d/98-test.conf"
    )


def prepare_postfix(machine: Machine) -> None:
    """Make Postfix a mail server that hands nothing on, and asks no DNS: there is none."""
    machine.run(
        "postconf -e inet_interfaces=all inet_protocols=all mydestination=example.org"
        " default_transport=discard: smtpd_peername_lookup=no maillog_file=/var/log/postfix.log"
    )
