"""A host with SQLite, Postfix and Dovecot for popbsmtp doctor to look at."""

import re
import subprocess

from tests.harness.directories import give, public_directory
from tests.harness.dovecot import Dovecot
from tests.harness.postfix import Postfix
from tests.servers.recorder_place import POST_LOGIN
from tests.servers.wrap_fixtures import POPBSMTP

_CONFIGURATION = """\
[database]
url = "sqlite:///{folder}/db/popbsmtp.db"
[recorder]
socket = "{folder}/run/login.sock"
spool = "{folder}/spool"
reply_timeout = "0.1s"
user = "dovecot"
"""


class Site:
    """A host with SQLite, Postfix and Dovecot, all configured by what the toolkit prints.

    Nobody listens on its sockets, and it has no spool.
    """

    def __init__(self, *, mode="wrapper"):
        self.folder = public_directory()
        self.config = self.folder / "popbsmtp.toml"
        self.sockets = self.folder / "run"
        self.sockets.mkdir()
        give(self.sockets, "dovecot", mode=0o755)
        self.database = self.folder / "db" / "popbsmtp.db"
        text = _CONFIGURATION.format(folder=self.folder)
        if mode == "socket":
            text += POST_LOGIN.replace("/run/popbsmtp", str(self.sockets))
        self.config.write_text(text)
        self.run("init")
        self.postfix = Postfix(self.folder, main_cf="")
        self.postfix.prepare()
        self.main_cf = self.run("postfix", "--output", self.postfix.config_directory).stdout
        self.postfix.write_main_cf(self.main_cf)
        self.dovecot = Dovecot(self.folder, postlogin=self.run("dovecot", "--mode", mode).stdout)
        self.dovecot.prepare()

    def run(self, *arguments):
        words = [POPBSMTP, "-c", self.config, *arguments]
        return subprocess.run(words, capture_output=True, text=True)

    def doctor(self):
        """Return (exit status, lines but that on cron, which this machine may have or not)."""
        done = self.run(
            "doctor",
            "--postfix-directory",
            self.postfix.config_directory,
            "--dovecot-config",
            self.dovecot.configuration,
        )
        assert done.stderr == ""
        lines = [line for line in done.stdout.splitlines() if "popbsmtp expire" not in line]
        return done.returncode, lines

    def wrong(self):
        """Return what doctor says beside "ok"."""
        status, lines = self.doctor()
        found = [line for line in lines if not line.startswith("ok ")]
        assert status == any(line.startswith("FAIL") for line in found)
        return found

    def spool(self):
        """Return the spool directory, which is made now."""
        path = self.folder / "spool"
        path.mkdir()
        return path

    def edit_config(self, old, new):
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))

    def edit_dovecot(self, pattern, replacement):
        text = self.dovecot.configuration.read_text()
        changed = re.sub(pattern, replacement, text)
        assert changed != text
        self.dovecot.configuration.write_text(changed)
