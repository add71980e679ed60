"""A mail client on a throwaway machine, from addresses of its own."""

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
        words = f"{action} {self.address} {self.server} {USER} {PASSWORD}"
        return json.loads(self.machine.run(f"/usr/bin/python3 - {words}", text=_CLIENT))


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
