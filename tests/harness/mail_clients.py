"""Mail programs, reduced to what the tests watch; every wait ends after timeout_s.

For a client in login_trusted_networks Dovecot takes over the address that it claims: in IMAP the
x-originating-ip of ID (RFC 2971), in POP3 XCLIENT ADDR= PORT=. IPv6 addresses have no prefix in
either. Only x-originating-ip and ADDR are needed; webmail sends the others, too.
"""

import re

from .line_session import LineSession, LoginError
from .smtp_client import smtp_rcpt, smtp_send

__all__ = [
    "ImapSession",
    "LoginError",
    "Pop3Session",
    "imap_login",
    "pop3_login",
    "smtp_rcpt",
    "smtp_send",
]

# The claimed client's port; any will do.
_CLIENT_PORT = 40000


class ImapSession(LineSession):
    """An IMAP connection (RFC 3501)."""

    untagged = re.compile(
        rb"\* (?:\d+ [A-Z]+|(?:OK|NO|BAD|BYE|CAPABILITY|FLAGS|ID|LIST|STATUS)\b)[^\r\n]*\r\n"
    )
    greets = rb"\* OK"

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._count = 0
        super().__init__(host, port, timeout_s)

    def command(self, line: str) -> str:
        """Return the tagged reply to *line*, without its tag."""
        tag = self._next_tag()
        self.send(f"{tag} {line}")
        return self.reply(f"{tag} ".encode()).decode().removeprefix(f"{tag} ")

    def claim(self, address: str, host: str, port: int) -> None:
        """Name the client that this one stands for."""
        fields = {
            "x-originating-ip": address,
            "x-originating-port": _CLIENT_PORT,
            "x-connected-ip": host,
            "x-connected-port": port,
        }
        pairs = " ".join(f'"{key}" "{value}"' for key, value in fields.items())
        answer = self.command(f"ID ({pairs})")
        assert answer.startswith("OK"), answer

    def login(self, user: str, password: str) -> None:
        """Log in; raise LoginError."""
        tag = self._next_tag()
        self.log_in(
            f'{tag} LOGIN "{user}" "{password}"',
            pattern=f"{tag} ".encode(),
            success=f"{tag} OK".encode(),
        )

    def select_inbox(self) -> None:
        """Open the mailbox: the proof that the mail process itself answers."""
        answer = self.command("SELECT INBOX")
        assert answer.startswith("OK"), answer

    def logout(self) -> None:
        """Log out; assert that BYE, OK and the end of the connection follow."""
        before = len(self.received)
        answer = self.command("LOGOUT")
        assert answer.startswith("OK"), answer
        assert b"* BYE" in self.received[before:], self.received[before:]
        self.expect_end()

    def _next_tag(self) -> str:
        self._count += 1
        return f"pbs{self._count}"


class Pop3Session(LineSession):
    """A POP3 connection (RFC 1939)."""

    untagged = re.compile(rb"(?!)")
    greets = rb"\+OK|-ERR"

    def command(self, line: str) -> str:
        """Return the one line of reply to *line*."""
        self.send(line)
        return self.reply(rb"\+OK|-ERR").decode()

    def claim(self, address: str) -> None:
        """Name the client that this one stands for."""
        answer = self.command(f"XCLIENT ADDR={address} PORT={_CLIENT_PORT}")
        assert answer.startswith("+OK"), answer

    def login(self, user: str, password: str) -> None:
        """Log in; raise LoginError."""
        answer = self.command(f"USER {user}")
        assert answer.startswith("+OK"), answer
        self.log_in(f"PASS {password}", pattern=rb"\+OK|-ERR", success=b"+OK")

    def stat(self) -> None:
        """Ask for the mailbox's size: the proof that the mail process itself answers."""
        answer = self.command("STAT")
        assert answer.startswith("+OK"), answer

    def logout(self) -> None:
        """Log out; assert that +OK and the end of the connection follow."""
        answer = self.command("QUIT")
        assert answer.startswith("+OK"), answer
        self.expect_end()


def imap_login(
    port: int,
    user: str = "alice",
    password: str = "secret",
    client_address: str | None = None,
    host: str = "127.0.0.1",
    timeout_s: float = 15,
) -> ImapSession:
    """Return a session that is logged in, as if from client_address; raise LoginError."""
    session = ImapSession(host, port, timeout_s)
    try:
        if client_address is not None:
            session.claim(client_address, host, port)
        session.login(user, password)
    except BaseException:
        session.close()
        raise
    return session


def pop3_login(
    port: int,
    user: str = "alice",
    password: str = "secret",
    client_address: str | None = None,
    host: str = "127.0.0.1",
    timeout_s: float = 15,
) -> Pop3Session:
    """Return a session that is logged in, as if from client_address; raise LoginError."""
    session = Pop3Session(host, port, timeout_s)
    try:
        if client_address is not None:
            session.claim(client_address)
        session.login(user, password)
    except BaseException:
        session.close()
        raise
    return session
