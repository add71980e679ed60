"""The units in systemd/, under a systemd of their own: what they promise and what they forbid."""

import json
import re
import socket
from pathlib import Path

import pytest

from popbsmtp_wrap.wire import format_request, read_clocks
from tests.harness.machine import REPOSITORY
from tests.harness.process import wait_until
from tests.harness.systemd_machine import systemd_machine
from tests.servers.recorder_place import (
    PATIENCE_S,
    POST_LOGIN,
    dovecot_request,
    fields,
    read_all,
)

pytestmark = pytest.mark.slow

DROP_IN = "/etc/systemd/system/popbsmtp.{}.d"
# systemd-analyze counts tenths; docs/recorder.md names the same number.
MOST_EXPOSED = 13

DOVECOT = """\
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
login_trusted_networks = 127.0.0.1
log_path = /var/log/dovecot.log
mail_location = maildir:~/Maildir
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=5000 gid=5000 home=/srv/mail/%u
}
!include popbsmtp.conf
"""
# Logs in and stays; prints a line when it is in.
STAYING_CLIENT = """\
import socket, time
peer = socket.create_connection(("127.0.0.1", 143))
lines = peer.makefile("rb")
lines.readline()
claim = 'ID ("x-originating-ip" "198.51.100.7")'
for command in (claim, "LOGIN alice secret", "SELECT INBOX"):
    peer.sendall(b"a " + command.encode() + b"\\r\\n")
    while not (line := lines.readline()).startswith(b"a "):
        assert line
    assert line.startswith(b"a OK"), line
peer.sendall(b"a IDLE\\r\\n")
print("in", flush=True)
time.sleep(600)
"""


class Host:
    """A machine on which the recorder is installed as README.md says, its units enabled."""

    def __init__(self, machine):
        self.machine = machine
        self.run = machine.run
        self.run("make install >/dev/null", cwd=str(REPOSITORY), outside_network=True)
        self.run(
            "adduser --quiet --system --group --no-create-home --home /nonexistent popbsmtp\n"
            "install -d -m 755 /etc/popbsmtp"
        )
        self.configure("")
        self.run("popbsmtp init && systemctl daemon-reload && systemctl enable popbsmtp.service")

    def configure(self, text):
        self.run("cat > /etc/popbsmtp/popbsmtp.toml", text=f"{text}\n{POST_LOGIN}")

    def fresh(self):
        """Go back to how it was after the installation, and start."""
        self.configure("")
        self.run(
            # With the paths that a drop-in has named, before they are forgotten.
            "systemctl stop popbsmtp.socket\n"
            f"rm -rf {DROP_IN.format('service')} {DROP_IN.format('socket')}\n"
            "systemctl daemon-reload\n"
            # Not revoke, which keeps logins out that the next recorder takes for older ones.
            "sqlite3 /var/lib/popbsmtp/popbsmtp.db 'DELETE FROM popbsmtp'\n"
            "systemctl start popbsmtp.service"
        )

    def drop_in(self, unit, text):
        """Do what systemctl edit does, and daemon-reload."""
        directory = DROP_IN.format(unit)
        self.run(f"mkdir -p {directory}; cat > {directory}/test.conf", text=text)
        self.run("systemctl daemon-reload")

    def show(self, name):
        """Return a property of the service."""
        return self.run(f"systemctl show --value --property={name} popbsmtp.service").strip()

    @property
    def pid(self):
        """The recorder's process, as process 1 of the machine sees it."""
        return int(self.show("MainPID"))

    def path(self, name):
        """Return the path of a socket as this process sees it."""
        return Path("/proc", str(self.machine.pid), "root", "run/popbsmtp", name)

    def ask(self, name, request):
        """Return a connection on which *request* was sent."""
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(PATIENCE_S)
        peer.connect(str(self.path(name)))
        peer.sendall(request)
        return peer

    def wrapper_asks(self, address):
        return self.ask("login.sock", format_request(address, b"alice", b"imap"))

    def imap_asks(self, address):
        return self.ask("imap-postlogin", dovecot_request(address))

    def login(self, address):
        """Return the answer to a login through popbsmtp-wrap's socket."""
        # As the wrapper says when it was: the recorder may have started a moment ago.
        request = format_request(address, b"alice", b"imap", moment=read_clocks())
        with self.ask("login.sock", request) as peer:
            return read_all(peer)

    def addresses(self):
        return {row["address"] for row in json.loads(self.run("popbsmtp list --json"))}

    def status(self):
        return json.loads(self.run("popbsmtp status --json"))

    def journal(self):
        """Return the fields of each line that the recorder, and not systemd, has logged.

        Without what the command says when the configuration lets it not start.
        """
        text = self.run("journalctl --sync; journalctl -q -o cat _SYSTEMD_UNIT=popbsmtp.service")
        lines = [line for line in text.splitlines() if not line.startswith("popbsmtp: /etc/")]
        return [fields(line) for line in lines]

    def events(self, name):
        return [event for event in self.journal() if event.get("event") == name]


@pytest.fixture(scope="module")
def installed():
    with systemd_machine("192.0.2.1") as machine:
        yield Host(machine)


@pytest.fixture
def host(installed):
    installed.fresh()
    return installed


def test_systemd_finds_nothing_wrong_with_the_units(host):
    assert host.run("systemd-analyze verify popbsmtp.socket popbsmtp.service 2>&1") == ""


def test_the_service_is_exposed_no_more_than_the_page_says(host):
    report = host.run(
        f"systemd-analyze security --offline=true --threshold={MOST_EXPOSED}"
        " /usr/local/lib/systemd/system/popbsmtp.service"
    )
    (exposure,) = re.findall(r"exposure level for popbsmtp.service: ([\d.]+)", report)
    page = " ".join((REPOSITORY / "docs" / "recorder.md").read_text().split())
    assert f"`systemd-analyze security popbsmtp.service` says {exposure}" in page


def test_installed_units_name_the_programs_that_were_installed(tmp_path, host):
    shown = host.run("systemctl cat popbsmtp.service")
    assert "# /usr/local/lib/systemd/system/popbsmtp.service\n" in shown
    assert "\nExecStart=/usr/local/bin/popbsmtp serve\n" in shown
    host.run(
        f"make -s install PREFIX=/opt/mail DESTDIR={tmp_path}",
        cwd=str(REPOSITORY),
        outside_network=True,
    )
    unit = f"{tmp_path}/opt/mail/lib/systemd/system/popbsmtp.service"
    assert "\nExecStart=/opt/mail/bin/popbsmtp serve\n" in host.run(f"cat {unit}")


def test_logins_are_recorded_through_the_sockets_that_systemd_made(host):
    assert host.login("198.51.100.7") == b"OK\n"
    with host.imap_asks("2001:db8::7") as peer:
        assert read_all(peer) == b"alice\thome=/home/alice\n"
    assert host.addresses() == {"198.51.100.7", "2001:db8::7"}
    assert host.show("ActiveState") == "active"
    listed = host.run("stat -c '%U:%G %a %n' /run/popbsmtp /run/popbsmtp/* /var/spool/popbsmtp")
    assert listed == (
        "root:root 755 /run/popbsmtp\n"
        "popbsmtp:popbsmtp 660 /run/popbsmtp/imap-postlogin\n"
        "popbsmtp:popbsmtp 660 /run/popbsmtp/login.sock\n"
        "popbsmtp:popbsmtp 660 /run/popbsmtp/pop3-postlogin\n"
        "popbsmtp:popbsmtp 700 /var/spool/popbsmtp\n"
    )


def test_postfix_can_read_the_store_that_the_service_has_written(host):
    host.run("rm -f /var/lib/popbsmtp/*-wal /var/lib/popbsmtp/*-shm; systemctl restart popbsmtp")
    assert host.login("198.51.100.7") == b"OK\n"
    files = host.run("stat -c '%U:%G %a' /var/lib/popbsmtp/*")
    assert set(files.splitlines()) == {"popbsmtp:postfix 660"}
    host.run("popbsmtp postfix --output /etc/postfix")
    as_postfix = "setpriv --reuid postfix --regid postfix --clear-groups"
    table = "sqlite:/etc/postfix/popbsmtp-sqlite.cf"
    assert host.run(f"{as_postfix} postmap -q 198.51.100.7 {table}") == "OK\n"


def test_the_networks_of_this_host_are_asked_for_inside_the_sandbox(host):
    # Directly after the change: postconf waits until main.cf is two seconds old.
    host.run("postconf -X mynetworks; postconf -e mynetworks_style=host")
    host.run("systemctl reload popbsmtp.service")
    wait_until(lambda: host.events("reloaded") != [], PATIENCE_S, "the reload")
    assert host.login("192.0.2.1") == b"OK\n"
    assert host.login("192.0.2.2") == b"OK\n"
    assert host.addresses() == {"192.0.2.2"}


def test_login_starts_the_service_that_was_stopped(host):
    host.run("systemctl stop popbsmtp.service")
    assert host.show("ActiveState") == "inactive"
    assert host.login("198.51.100.7") == b"OK\n"
    assert host.addresses() == {"198.51.100.7"}


@pytest.mark.parametrize("end", ["kill -9 {pid}", "systemctl restart popbsmtp.service"])
def test_logins_that_wait_are_answered_by_the_next_process(host, end):
    before = host.pid
    host.run("systemctl kill --signal=STOP popbsmtp.service")
    peers = [host.wrapper_asks(f"198.51.100.{n}") for n in range(50)]
    peers += [host.imap_asks(f"203.0.113.{n}") for n in range(50)]
    # SIGTERM alone would be heeded after SIGCONT only.
    host.drop_in("service", "[Service]\nTimeoutStopSec=1s\n")
    host.run(end.format(pid=before))
    answers = []
    for peer in peers:
        with peer:
            answers.append(read_all(peer))
    assert answers == [b"OK\n"] * 50 + [b"alice\thome=/home/alice\n"] * 50
    assert host.pid != before
    assert len(host.addresses()) == 100


def test_service_that_hangs_is_replaced(host):
    host.drop_in("service", "[Service]\nWatchdogSec=1s\n")
    host.run("systemctl restart popbsmtp.service")
    before = host.pid
    assert host.login("198.51.100.7") == b"OK\n"
    # It says that it lives: longer than the limit, and it is the same process.
    host.run("sleep 2.5")
    assert host.pid == before
    host.run("systemctl kill --signal=STOP popbsmtp.service")
    assert host.login("198.51.100.8") == b"OK\n"
    assert host.pid != before
    assert host.addresses() == {"198.51.100.7", "198.51.100.8"}


def test_service_goes_on_trying_while_its_configuration_is_wrong(host):
    host.configure("grace = 'soon'")
    host.run("systemctl kill --signal=KILL popbsmtp.service")
    peer = host.imap_asks("198.51.100.7")
    wait_until(lambda: int(host.show("NRestarts")) >= 8, 60, "eight attempts")
    assert host.run("systemctl is-active popbsmtp.socket") == "active\n"
    host.configure("")
    with peer:
        assert read_all(peer) == b"alice\thome=/home/alice\n"
    host.run("systemctl reset-failed popbsmtp.service")
    text = host.run("journalctl -q -o cat _SYSTEMD_UNIT=popbsmtp.service")
    assert "grace: found 'soon', expected" in text


def test_reload_that_fails_keeps_the_service_as_it_was(host):
    before = len(host.events("reload_failed"))
    host.configure("grace = 'soon'")
    host.run("systemctl reload popbsmtp.service")
    wait_until(lambda: len(host.events("reload_failed")) > before, PATIENCE_S, "the reload")
    assert "grace: found 'soon'" in host.events("reload_failed")[-1]["error"]
    assert host.login("198.51.100.7") == b"OK\n"
    assert host.show("ActiveState") == "active"


def test_a_socket_more_has_to_be_in_both_files(host):
    host.configure(
        '[[recorder.postlogin]]\npath = "/run/popbsmtp/sieve"\nservice = "managesieve"\n'
    )
    before = len(host.events("reload_failed"))
    host.run("systemctl reload popbsmtp.service")
    wait_until(lambda: len(host.events("reload_failed")) > before, PATIENCE_S, "the reload")
    assert host.events("reload_failed")[-1]["error"].startswith("/run/popbsmtp/sieve: ")
    host.drop_in("socket", "[Socket]\nListenStream=/run/popbsmtp/sieve\n")
    host.run("systemctl restart popbsmtp.socket popbsmtp.service")
    with host.ask("sieve", dovecot_request("198.51.100.7")) as peer:
        assert read_all(peer) == b"alice\thome=/home/alice\n"
    assert "managesieve" in host.run("popbsmtp list")


def test_a_socket_that_the_configuration_does_not_name_is_only_logged(host):
    before = len(host.events("unused_socket"))
    host.drop_in("socket", "[Socket]\nListenStream=/run/popbsmtp/other\n")
    host.run("systemctl restart popbsmtp.socket popbsmtp.service")
    assert host.events("unused_socket")[before:][0]["path"] == "/run/popbsmtp/other"
    assert host.login("198.51.100.7") == b"OK\n"


def test_stopping_both_units_removes_the_sockets(host):
    host.run("systemctl stop popbsmtp.socket popbsmtp.service")
    assert host.run("ls /run/popbsmtp") == ""
    host.run("systemctl start popbsmtp.service")
    assert host.login("198.51.100.7") == b"OK\n"


def test_recorder_from_a_terminal_does_not_take_the_sockets_away(host):
    said = host.run("popbsmtp serve 2>&1 || echo $?")
    assert re.fullmatch(
        r"popbsmtp: another recorder listens at /run/popbsmtp/login.sock, or systemd does for it;"
        r" .*\n69\n",
        said,
    )
    assert host.login("198.51.100.7") == b"OK\n"


def test_the_journal_gets_events_of_facility_mail_without_times_of_their_own(host):
    host.run("journalctl --sync")
    mail = host.run("journalctl -q -o cat SYSLOG_FACILITY=2 SYSLOG_IDENTIFIER=popbsmtp")
    last = fields(mail.splitlines()[-1])
    assert (last["event"], last["pid"]) == ("started", str(host.pid))
    assert "time" not in last


DATABASES = {
    "PostgreSQL, socket": "postgresql://popbsmtp@/mail?host=/run/postgresql",
    "PostgreSQL, TCP": "postgresql://popbsmtp:secret@127.0.0.1/mail",
    "MariaDB, socket": "mysql://popbsmtp@localhost/mail?unix_socket=/run/mysqld/mysqld.sock",
    "MariaDB, TCP": "mysql://tcp:secret@127.0.0.1/mail",
}
PREPARE = {
    "postgresql": """\
systemctl start postgresql@15-main
su postgres -c 'createuser popbsmtp; createdb -O popbsmtp mail'
echo "ALTER ROLE popbsmtp PASSWORD 'secret'" | su postgres -c 'psql -q'
""",
    "mariadb": """\
systemctl start mariadb
mariadb -e "CREATE DATABASE mail;
CREATE USER popbsmtp@localhost IDENTIFIED VIA unix_socket;
CREATE USER tcp@'%' IDENTIFIED BY 'secret';
GRANT ALL ON mail.* TO popbsmtp@localhost; GRANT ALL ON mail.* TO tcp@'%'"
""",
}


@pytest.fixture(scope="module")
def databases(installed):
    for script in PREPARE.values():
        installed.run(script)


@pytest.mark.parametrize("kind", DATABASES)
def test_every_database_is_reached_from_inside_the_sandbox(databases, host, kind):
    service = "mariadb" if "Maria" in kind else "postgresql@15-main"
    host.run("chgrp popbsmtp /etc/popbsmtp/popbsmtp.toml; chmod 640 /etc/popbsmtp/popbsmtp.toml")
    host.configure(f'[database]\nurl = "{DATABASES[kind]}"\n')
    as_popbsmtp = "setpriv --reuid popbsmtp --regid popbsmtp --clear-groups popbsmtp"
    host.run(f"{as_popbsmtp} init")
    host.run("systemctl restart popbsmtp.service")
    assert host.login("198.51.100.7") == b"OK\n"
    assert host.status()["database"]["state"] == "up"
    # Down, the login goes to the spool, with the stamp that needs /proc/sys.
    host.run(f"systemctl stop {service}")
    assert host.login("198.51.100.8") == b"OK\n"
    assert host.status()["spool"]["logins"] == 1
    boot_id = host.run("cat /proc/sys/kernel/random/boot_id").strip()
    assert f"\t{boot_id}\t" in host.run("cat /var/spool/popbsmtp/*.spool")
    host.run(f"systemctl start {service}")
    wait_until(lambda: host.status()["spool"]["logins"] == 0, PATIENCE_S, "the drain")
    listed = host.run(f"{as_popbsmtp} list --json")
    assert {row["address"] for row in json.loads(listed)} == {"198.51.100.7", "198.51.100.8"}
    host.run(f"{as_popbsmtp} revoke --all")


def test_the_service_may_ask_dovecot_for_open_sessions(host):
    host.configure('grace = "8s"\n[sessions]\nrenew = "1s"')
    host.run("cat > /etc/dovecot/dovecot.conf; chmod 644 /etc/dovecot/dovecot.conf", text=DOVECOT)
    host.run(
        "popbsmtp dovecot --mode socket > /etc/dovecot/popbsmtp.conf; install -d -m 777 /srv/mail"
    )
    host.run("systemctl reload popbsmtp.service; dovecot")
    try:
        host.run("cat > /tmp/staying", text=STAYING_CLIENT)
        host.run("python3 /tmp/staying > /tmp/says 2>&1 & echo $! > /tmp/staying.pid")
        wait_until(lambda: host.run("cat /tmp/says") == "in\n", PATIENCE_S, "the client")
        count = lambda: host.status()["outcomes"].get("renewed", 0)  # noqa: E731
        wait_until(lambda: count() > 10, 2 * PATIENCE_S, "renewals for longer than grace")
        host.run("popbsmtp check 198.51.100.7")
        assert host.status()["sessions"]["error"] is None
    finally:
        host.run("kill $(cat /tmp/staying.pid); doveadm stop")
