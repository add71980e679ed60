"""A line that a client of another program has written, by way of a real syslog-ng."""

import contextlib
import socket
import time

import pytest

from popbsmtp_wrap.logs.forgery import syslog_daemons
from tests.harness.process import Server, wait_until
from tests.servers.recorder_place import PATIENCE_S, Recorder
from tests.servers.watch_place import Watch, append, dovecot, rows

VICTIM, REAL = "203.0.113.66", "198.51.100.7"
REWRITE = (
    r'rewrite r_one_line { subst("[\\x00-\\x1f]", " ", value("MESSAGE"), type("pcre"),'
    ' flags("global")); };'
)


class SyslogNg(Server):
    """A private syslog-ng that writes what comes to *socket* into home/mail.log."""

    name = "syslog-ng"

    def __init__(self, base, flags="", rewrite=""):
        super().__init__(base)
        self.socket = self.home / "log.sock"
        self.log = self.home / "mail.log"
        self.flags, self.rewrite = flags, rewrite

    def prepare(self):
        used = "rewrite(r_one_line); " if self.rewrite else ""
        (self.home / "syslog-ng.conf").write_text(
            "@version: 3.38\noptions { flush_lines(0); };\n"
            f'source s {{ unix-dgram("{self.socket}"{self.flags}); }};\n{self.rewrite}\n'
            f'destination d {{ file("{self.log}"); }};\n'
            f"log {{ source(s); {used}destination(d); }};\n"
        )

    def command(self):
        options = ["-F", "--no-caps"]
        for option, name in {"f": "conf", "R": "persist", "p": "pid", "c": "ctl"}.items():
            options += [f"-{option}", f"{self.home}/syslog-ng.{name}"]
        return ["/usr/sbin/syslog-ng", *options]

    def is_ready(self):
        return self.socket.exists()

    def log_line(self, tag, text):
        """Log as syslog(3) does."""
        stamp = time.strftime("%b %e %H:%M:%S")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.connect(str(self.socket))
            peer.send(f"<22>{stamp} {tag}: {text}".encode())

    def fail_to_log_in(self):
        """Log as GNU imap4d does when a client has sent a literal as its name."""
        forged = dovecot(VICTIM, stamp=time.strftime("%b %e %H:%M:%S"))
        self.log_line("imap4d[77]", f"Login failed: user=x\n{forged}\n from 203.0.113.9")

    def lines(self):
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture(scope="module")
def shared():
    with Recorder() as made:
        yield made


@pytest.fixture
def place(shared, tmp_path):
    """Return a function that gives a running syslog-ng and a watcher of its log."""
    shared.empty()
    shared.configure(sessions="")
    with contextlib.ExitStack() as stack:

        def make(flags="", rewrite="", watch=""):
            shared.configure(sessions=f"[watch]\n{watch}")
            syslog = stack.enter_context(SyslogNg(tmp_path, flags, rewrite))
            watcher = Watch(shared, str(syslog.log), log=False)
            return syslog, stack.enter_context(watcher)

        yield make
        shared.configure(sessions="")


def test_a_line_that_a_client_has_forged_is_refused(place):
    syslog, watch = place()
    syslog.fail_to_log_in()
    wait_until(lambda: len(syslog.lines()) == 3, PATIENCE_S, "the forged line")
    assert VICTIM in syslog.lines()[1], "no parser can tell this one"
    watch.wait_for_event("not_recorded")
    [event] = watch.events("forgeable_log")
    assert (event["program"], event["logins"]) == ("imap4d", "refused")
    assert "journal" in event["advice"]
    assert watch.events("not_recorded")[0]["why"] == "forgeable"
    # From now on nobody can tell.
    append(syslog.log, dovecot(REAL))
    watch.wait_for_event("not_recorded", 2)
    assert rows(watch.recorder) == {}


def test_logins_before_such_a_program_was_seen_count(place):
    syslog, watch = place()
    syslog.log_line("dovecot", "imap-login: Disconnected")
    append(syslog.log, dovecot(REAL))
    watch.wait_for_rows({REAL})
    syslog.fail_to_log_in()
    watch.wait_for_event("not_recorded")
    assert set(rows(watch.recorder)) == {REAL}


def test_whoever_knows_better_may_have_them_recorded(place):
    _, watch = place(watch='forgeable = "record"')
    syslog_log = watch.arguments[0]
    with open(syslog_log, "a", encoding="utf-8") as file:
        file.write("Jun 14 10:00:00 mx imap4d[7]: ready\n" + dovecot(REAL) + "\n")
    watch.wait_for_rows({REAL})
    [event] = watch.events("forgeable_log")
    assert event["logins"] == "recorded"


@pytest.mark.parametrize(
    "fix", [{"flags": " flags(no-multi-line)"}, {"rewrite": REWRITE}], ids=["flags", "rewrite"]
)
def test_either_fix_of_syslog_ng_keeps_the_message_on_one_line(place, fix, tmp_path):
    syslog, watch = place(watch='forgeable = "record"', **fix)
    syslog.fail_to_log_in()
    syslog.log_line("dovecot", dovecot(REAL).partition("dovecot: ")[2])
    wait_until(lambda: len(syslog.lines()) == 2, PATIENCE_S, "two lines")
    watch.wait_for_rows({REAL})
    assert set(rows(watch.recorder)) == {REAL}


@pytest.mark.parametrize(
    ("fix", "keeps"),
    [({}, True), ({"flags": " flags(no-multi-line)"}, False), ({"rewrite": REWRITE}, False)],
)
def test_what_syslog_ng_does_is_read_from_its_configuration(tmp_path, fix, keeps):
    syslog = SyslogNg(tmp_path, **fix)
    syslog.prepare()
    (tmp_path / "etc" / "syslog-ng").mkdir(parents=True)
    (syslog.home / "syslog-ng.conf").rename(tmp_path / "etc" / "syslog-ng" / "syslog-ng.conf")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "syslog-ng.pid").touch()
    [daemon] = syslog_daemons(str(tmp_path))
    assert daemon.keeps is keeps
