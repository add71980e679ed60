"""A mail client that claims any address with Postfix's XCLIENT.

XCLIENT ADDR=192.0.2.1 NAME=host, ADDR=IPV6:2001:db8::1, NAME=[UNAVAILABLE] for a client without
a name: https://www.postfix.org/XCLIENT_README.html
"""

import contextlib
import smtplib
from collections.abc import Iterator
from types import TracebackType
from typing import Self


class SmtpSession:
    """A connection that stands for *client_address*; every wait ends after timeout_s."""

    def __init__(
        self,
        port: int,
        client_address: str,
        *,
        host: str = "127.0.0.1",
        client_name: str | None = None,
        timeout_s: float = 15,
    ) -> None:
        prefix = "IPV6:" if ":" in client_address else ""
        name = client_name or "[UNAVAILABLE]"
        with _plain_timeouts():
            self._smtp = smtplib.SMTP(host, port, "client.example", timeout=timeout_s)
        try:
            self.command("EHLO client.example")
            self.command(f"XCLIENT ADDR={prefix}{client_address} NAME={name}")
            # XCLIENT starts the session anew.
            self.command("EHLO client.example")
        except BaseException:
            self._smtp.close()
            raise

    def command(self, line: str) -> None:
        """Send *line*; raise SMTPResponseException if the reply is not 2xx."""
        code, text = self._reply(line)
        if code not in range(200, 300):
            raise smtplib.SMTPResponseException(code, text)

    def mail(self, sender: str) -> None:
        """Begin a mail; raise SMTPResponseException if the sender is refused."""
        self.command(f"MAIL FROM:<{sender}>")

    def rcpt(self, recipient: str) -> tuple[int, str]:
        """Return the reply to one more recipient."""
        return self._reply(f"RCPT TO:<{recipient}>")

    def data(self, text: str) -> tuple[int, str]:
        """Return the reply to the mail itself."""
        with _plain_timeouts():
            code, answer = self._smtp.data(text)
        return code, answer.decode(errors="replace")

    def _reply(self, line: str) -> tuple[int, str]:
        with _plain_timeouts():
            code, text = self._smtp.docmd(line)
        return code, text.decode(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(smtplib.SMTPServerDisconnected):
            # After 421 the server has gone already; after an error nobody waits for it.
            if error is None:
                self._smtp.quit()
        self._smtp.close()


@contextlib.contextmanager
def _plain_timeouts() -> Iterator[None]:
    # smtplib hides a timeout of recv() in an exception that says "unexpectedly closed".
    try:
        yield
    except smtplib.SMTPServerDisconnected as error:
        if isinstance(error.__context__, TimeoutError):
            raise error.__context__ from None
        raise


def smtp_rcpt(
    port: int,
    client_address: str,
    recipient: str = "someone@elsewhere.example",
    sender: str = "alice@example.org",
    host: str = "127.0.0.1",
    client_name: str | None = None,
    timeout_s: float = 15,
) -> tuple[int, str]:
    """Return the reply to RCPT; nothing is sent.

    Raise SMTPException if the server refuses anything else, TimeoutError if it does not answer.
    """
    with SmtpSession(
        port, client_address, host=host, client_name=client_name, timeout_s=timeout_s
    ) as session:
        session.mail(sender)
        reply = session.rcpt(recipient)
        if reply[0] != 421:
            session.command("RSET")
        return reply


def smtp_send(
    port: int,
    client_address: str,
    recipient: str = "someone@elsewhere.example",
    sender: str = "alice@example.org",
    host: str = "127.0.0.1",
    client_name: str | None = None,
    timeout_s: float = 15,
    text: str = "Subject: test\n\nHello.\n",
) -> tuple[int, str]:
    """Return the reply to the mail, or to RCPT if that was refused."""
    with SmtpSession(
        port, client_address, host=host, client_name=client_name, timeout_s=timeout_s
    ) as session:
        session.mail(sender)
        reply = session.rcpt(recipient)
        return session.data(text) if reply[0] == 250 else reply
