"""Private Dovecot servers with IMAP and POP3."""

import base64
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from . import reaper
from .directories import write
from .ports import HOSTS, free_port, listening
from .process import ENVIRONMENT, Server, wait_until

# Above first_valid_uid (500), and nobody's.
_MAIL_ID = 5000

_CONFIGURATION = """\
base_dir = {run}
state_dir = {home}/state
log_path = {home}/dovecot.log
protocols = imap pop3
listen = {hosts}
ssl = no
disable_plaintext_auth = no
login_trusted_networks = 127.0.0.0/8 ::1
default_internal_user = dovecot
default_login_user = dovenull
mail_location = maildir:~/Maildir
# Tests log in as one user from many addresses, and wrong passwords need no punishment.
mail_max_userip_connections = 1000
auth_failure_delay = 0
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
passdb {{
  driver = passwd-file
  args = {home}/users
}}
userdb {{
  driver = passwd-file
  args = {home}/users
}}
service imap-login {{
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3_port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""


class Dovecot(Server):
    """IMAP and POP3 on 127.0.0.1 and ::1; every client there may claim another address.

    A value of *users* is the password, then userdb fields after blanks: "secret myfield=hello".
    *postlogin* and *extra* are appended to the configuration as they are.
    """

    name = "dovecot"

    def __init__(
        self,
        base: Path,
        *,
        postlogin: str = "",
        users: Mapping[str, str] = {"alice": "secret"},
        extra: str = "",
    ) -> None:
        super().__init__(base)
        self.imap_port = free_port()
        self.pop3_port = free_port()
        self.configuration = self.home / "dovecot.conf"
        self.base_dir = self.home / "run"
        self._users = users
        self._text = f"{postlogin}\n{extra}\n"

    def prepare(self) -> None:
        mail = self.home / "mail"
        mail.mkdir()
        text = _CONFIGURATION.format(
            run=self.base_dir,
            home=self.home,
            hosts=", ".join(HOSTS),
            imap_port=self.imap_port,
            pop3_port=self.pop3_port,
        )
        write(self.configuration, text + self._text)
        lines = (self._passwd_line(user, value) for user, value in self._users.items())
        write(self.home / "users", "".join(lines), mode=0o640, owner="root:dovecot")

    def _passwd_line(self, user: str, value: str) -> str:
        home = self.home / "mail" / user
        home.mkdir()
        os.chown(home, _MAIL_ID, _MAIL_ID)
        password, *fields = value.split()
        # Base64, since a colon ends the field.
        secret = "{PLAIN.b64}" + base64.b64encode(password.encode()).decode()
        extra = " ".join(f"userdb_{field}" for field in fields)
        return f"{user}:{secret}:{_MAIL_ID}:{_MAIL_ID}::{home}::{extra}\n"

    def command(self) -> list[str]:
        return ["/usr/sbin/dovecot", "-F", "-c", str(self.configuration)]

    def is_ready(self) -> bool:
        return listening(self.imap_port) and listening(self.pop3_port)

    def wait_for_end(self) -> None:
        # All but the log process leave at once; the master sleeps for a second before it looks.
        wait_until(lambda: len(reaper.tree(self.root)) <= 2, self.stop_timeout_s, self.name)
        # The log process may still be writing their last lines.
        time.sleep(0.03)

    def doveconf(self) -> str:
        """Return doveconf -n of this server; raise CalledProcessError if it finds an error."""
        return subprocess.run(
            ["/usr/bin/doveconf", "-n", "-c", str(self.configuration)],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
            env=ENVIRONMENT,
        ).stdout

    def log_text(self) -> str:
        """Return what Dovecot and its services have logged, and what the master printed."""
        path = self.home / "dovecot.log"
        return super().log_text() + (path.read_text(errors="replace") if path.exists() else "")
