"""systemd/popbsmtp-watch.service and the real journal, under a systemd of their own."""

import re

import pytest

from tests.harness.machine import REPOSITORY
from tests.harness.process import wait_until
from tests.harness.systemd_machine import systemd_machine
from tests.servers.recorder_place import PATIENCE_S
from tests.servers.watch_place import dovecot

pytestmark = pytest.mark.slow

# The journal of a throwaway machine may be read by its own group alone.
DROP_IN = "[Service]\nSupplementaryGroups=systemd-journal\n"
SAY = (
    "import sys, syslog, time; "
    'syslog.openlog("imapd", syslog.LOG_PID, syslog.LOG_MAIL); '
    "syslog.syslog(sys.argv[1]); time.sleep(0.5)"
)
COURIER = "LOGIN, user=alice, ip=[{}], port=[58833], protocol=IMAP"


@pytest.fixture(scope="module")
def machine():
    with systemd_machine() as made:
        made.run("make install >/dev/null", cwd=str(REPOSITORY), outside_network=True)
        made.run(
            "adduser --quiet --system --group --no-create-home --home /nonexistent popbsmtp\n"
            "install -d -m 755 /etc/popbsmtp\n"
            "install -o root -g adm -m 640 /dev/null /var/log/mail.log\n"
            f"cp {REPOSITORY}/systemd/popbsmtp-watch.service /etc/systemd/system\n"
            "mkdir /etc/systemd/system/popbsmtp-watch.service.d"
        )
        made.run(
            "cat > /etc/systemd/system/popbsmtp-watch.service.d/journal.conf; "
            "systemctl daemon-reload",
            text=DROP_IN,
        )
        made.run("cat > /etc/popbsmtp/popbsmtp.toml", text="[watch]\njournal = true\n")
        made.run(
            "systemctl start systemd-journald-dev-log.socket systemd-journald.service\n"
            "install -d -m 700 -o popbsmtp /var/spool/popbsmtp\n"
            "popbsmtp init\n"
            "systemd-run --quiet --unit=recorder popbsmtp serve\n"
            "until popbsmtp status >/dev/null 2>&1; do sleep 0.1; done\n"
            "systemctl start popbsmtp-watch.service"
        )
        yield made


def say(machine, unit, text):
    """Log *text* as imapd from *unit*."""
    # logger(1) would end before the journal has looked at whose process it is.
    machine.run(f"systemd-run --wait --quiet --unit={unit} python3 -c '{SAY}' '{text}'")


def test_a_login_counts_from_a_log_and_from_the_unit_of_its_server(machine):
    say(machine, "somebody.service", COURIER.format("198.51.100.66"))
    say(machine, "courier-imap.service", COURIER.format("198.51.100.1"))
    machine.run("cat >> /var/log/mail.log", text=dovecot("198.51.100.2") + "\n")
    listed = lambda: machine.run("popbsmtp list | cut -d' ' -f1 | sort").split()  # noqa: E731
    wait_until(lambda: len(listed()) >= 2, PATIENCE_S, "the logins")
    assert listed() == ["198.51.100.1", "198.51.100.2"]


def test_the_unit_reloads_and_ends_well(machine):
    log = "journalctl --quiet -o cat _SYSTEMD_UNIT=popbsmtp-watch.service"
    machine.run("systemctl reload popbsmtp-watch.service")
    wait_until(lambda: "event=reloaded" in machine.run(log), PATIENCE_S, "the reload")
    machine.run("systemctl restart popbsmtp-watch.service")
    shown = machine.run(
        "systemctl stop popbsmtp-watch.service\n"
        "systemctl show --property=Result,ExecMainStatus popbsmtp-watch.service\n"
        "journalctl --quiet -o cat _SYSTEMD_UNIT=popbsmtp-watch.service"
    )
    assert "Result=success" in shown
    assert "ExecMainStatus=0" in shown
    events = re.findall(r"^event=(started|reloaded|reload_failed|stopped)\b", shown, re.MULTILINE)
    assert events == ["started", "reloaded", "stopped", "started", "stopped"]
