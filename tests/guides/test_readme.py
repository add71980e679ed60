"""README.md is true: its commands run as they stand, on throwaway machines with default ports.

Packages and `make install` need the package index, so those lines run outside the machine's
network; all others run inside.
"""

import json
import re
from dataclasses import replace
from itertools import groupby

import pytest

from tests.guides import readme
from tests.guides.mail import Client, connect, prepare_dovecot, prepare_postfix
from tests.harness.machine import REPOSITORY, machine
from tests.harness.process import wait_until
from tests.harness.systemd_machine import systemd_machine

pytestmark = pytest.mark.slow

IPV4, IPV6 = "198.51.100.7", "2001:db8::7"
SERVER4, SERVER6 = "203.0.113.1", "2001:db8::1"


def follow(host, block):
    """Run a block; return its output."""
    lines = block.replace("\\\n", " ").splitlines(keepends=True)
    output = ""
    for outside, part in groupby(lines, lambda line: bool(re.match("apt-get|make install", line))):
        output += host.run("".join(part), cwd=str(REPOSITORY), outside_network=outside)
    return output


def relays_after_login_only(client4, client6, imap):
    assert [client4.relay(), client6.relay()] == [554, 554]
    Client(imap, IPV4, SERVER4).login("imap")
    assert [client4.relay(), client6.relay()] == [250, 554]
    Client(imap, IPV6, SERVER6).login("pop3")
    assert [client4.relay(), client6.relay()] == [250, 250]
    assert replace(client4, address="198.51.100.8").relay() == 554


def test_guide_a_one_machine_with_sqlite():
    with machine(IPV4, IPV6, SERVER4, SERVER6, "198.51.100.8") as host:
        *install, check, listing = readme.guide("sqlite")
        follow(host, install[0])
        follow(host, install[1])
        prepare_dovecot(host)
        prepare_postfix(host)
        for block in install[2:]:
            follow(host, block)
        report = follow(host, check)
        assert {line.split()[0] for line in report.splitlines()} == {"ok"}
        relays_after_login_only(Client(host, IPV4, SERVER4), Client(host, IPV6, SERVER6), host)
        listed = follow(host, listing)
        assert re.search(rf"^{IPV4} .* imap alice$", listed, re.MULTILINE)
        assert re.search(rf"^{IPV6} .* pop3 alice$", listed, re.MULTILINE)
        command = cron_command(host)
        host.run("sqlite3 /var/lib/popbsmtp/popbsmtp.db 'UPDATE popbsmtp SET last_seen = 1'")
        assert Client(host, IPV4, SERVER4).relay() == 554
        host.run(command)
        assert follow(host, listing) == ""
        Client(host, IPV4, SERVER4).login("pop3")
        # The recorder remembers the address, and finds a moment later that its row has gone.
        wait_until(lambda: Client(host, IPV4, SERVER4).relay() == 250, 60, "the row")


def cron_command(host):
    """Return what cron would run, as the user and with the PATH of the cron.d file."""
    text = host.run("cat /etc/cron.d/popbsmtp")
    path = re.search(r"^PATH=(.*)$", text, re.MULTILINE)[1]
    user, command = re.search(r"^[*/5 ]+ (\S+) (.*)$", text, re.MULTILINE).groups()
    return f"setpriv --reuid {user} --regid {user} --init-groups env PATH={path} sh -c '{command}'"


def test_guide_b_one_machine_with_mariadb():
    with machine(IPV4, IPV6, SERVER4, SERVER6, "198.51.100.8") as host:
        host.run("service mariadb start")
        *database, servers, check = readme.guide("mariadb")
        for block in database:
            output = follow(host, block)
        assert output.endswith("table popbsmtp is right\n")
        prepare_dovecot(host)
        prepare_postfix(host)
        follow(host, servers)
        checked = follow(host, check)
        assert "FAIL" not in checked
        assert checked.endswith("not logged in yet\n")
        relays_after_login_only(Client(host, IPV4, SERVER4), Client(host, IPV6, SERVER6), host)
        host.run(cron_command(host))


def test_guide_c_three_hosts_with_postgresql():
    with (
        machine(IPV4, IPV6, SERVER4, SERVER6, "198.51.100.8") as imap,
        machine() as db,
        machine() as mx,
    ):
        imap.connect(db, "192.0.2.20", "192.0.2.10")
        imap.connect(mx, "192.0.2.20", "192.0.2.30")
        # Mail clients live beside Dovecot here.
        imap.run("ip address add 2001:db8:1::20/64 dev br0 nodad")
        mx.run(
            "ip route add default via 192.0.2.20\n"
            "ip address add 2001:db8:1::30/64 dev eth0 nodad\n"
            "ip -6 route add default via 2001:db8:1::20"
        )
        imap.run("mv /usr/sbin/postconf /usr/sbin/postmap /var/tmp")  # no Postfix there
        hosts = {"db": db, "imap": imap, "mx": mx}
        common, *blocks = readme.guide("postgresql")
        for host in (imap, mx):
            follow(host, common)
        db.run("service postgresql start")
        prepare_dovecot(imap)
        prepare_postfix(mx)
        output = {}
        for block in blocks:
            name = readme.host_of(block)
            output[name] = follow(hosts[name], block)
        assert "FAIL" not in output["imap"]
        assert output["mx"].endswith("not logged in yet\n")
        relays_after_login_only(
            Client(imap, IPV4, "192.0.2.30"), Client(imap, IPV6, "2001:db8:1::30"), imap
        )
        imap.run(cron_command(imap))


def test_guide_d_coming_from_the_wiki():
    with machine(IPV4) as host:
        host.run("service mariadb start")
        common, adopt, change, check = readme.guide("wiki")
        host.run(
            "mariadb -e 'CREATE DATABASE mail'\n"
            "mariadb mail -e 'CREATE TABLE popbsmtp"
            " (address varchar(39) NOT NULL PRIMARY KEY, last_seen datetime)'\n"
            "mariadb mail -e \"INSERT INTO popbsmtp VALUES ('198.51.100.7', NOW())\"\n"
            "mariadb mail -e \"GRANT ALL ON mail.* TO popbsmtp@localhost IDENTIFIED BY 'secret'\""
        )
        follow(host, common)
        host.run("umask 077; echo secret > /etc/popbsmtp/password")
        assert "ALTER TABLE popbsmtp MODIFY" in follow(host, adopt)
        assert follow(host, change).endswith("table popbsmtp is right\n")
        assert 1700 < int(host.run("popbsmtp check 198.51.100.7")) <= 1800
        follow(host, check)


def test_guide_e_the_recorder_under_systemd_and_without():
    others = "198.51.100.8", "198.51.100.9"
    with systemd_machine(IPV4, IPV6, SERVER4, SERVER6, *others) as host:
        connect(host, IPV4, IPV6, *others)
        other = Client(host, "198.51.100.8", SERVER4)
        install, basis, *servers, _, _ = readme.guide("sqlite")
        follow(host, install)
        follow(host, basis)
        prepare_dovecot(host)
        prepare_postfix(host)
        for block in servers:
            follow(host, block)
        units, dovecot, check = readme.guide("recorder")[1:]
        started = follow(host, units)
        assert re.search(r"^database.state +up$", started, re.MULTILINE)
        # The wrapper as it was asks the recorder now.
        other.login("imap")
        assert logins(host) == {"wrapper": 1}
        host.run("popbsmtp revoke --all")
        follow(host, dovecot)
        report = host.run("popbsmtp doctor")
        assert {line.split()[0] for line in report.splitlines()} == {"ok"}
        relays_after_login_only(Client(host, IPV4, SERVER4), Client(host, IPV6, SERVER6), host)
        checked = follow(host, check)
        assert re.search(rf"^{IPV4} .* imap alice$", checked, re.MULTILINE)
        assert re.search(r"^logins.postlogin-imap +\d+$", checked, re.MULTILINE)
        host.run("systemctl kill --signal=KILL popbsmtp.service")
        # Not one that was revoked a moment ago: the next recorder cannot tell how long this one has
        # waited in the queue, and takes it for older than it is.
        late = replace(other, address=others[1])
        late.login("pop3")
        assert late.relay() == 250
        host.run("systemctl disable --now popbsmtp.socket popbsmtp.service")
        with pytest.raises(RuntimeError, match="imaplib"):
            other.login("imap")
        run_script_serves_the_same(host, other)


def run_script_serves_the_same(host, client):
    """What docs/recorder.md says for machines without systemd."""
    (run,) = (block for block in readme.blocks(readme.RECORDER.read_text()) if "#!" in block)
    host.run("cat > /var/tmp/run; chmod 755 /var/tmp/run", text=run)
    host.run("/var/tmp/run </dev/null >/var/tmp/log &")
    host.run("until popbsmtp status >/dev/null 2>&1; do sleep 0.1; done")
    assert host.run("stat -c %U /run/popbsmtp/imap-postlogin") == "popbsmtp\n"
    client.login("imap")
    assert logins(host) == {"postlogin-imap": 1}
    assert " event=started " in host.run("cat /var/tmp/log")


def logins(host):
    return json.loads(host.run("popbsmtp status --json"))["logins"]


def test_every_shell_block_belongs_to_a_test():
    tested = [
        block
        for name in ("sqlite", "mariadb", "postgresql", "wiki", "recorder")
        for block in readme.guide(name)
    ]
    others = [block for block in readme.blocks(readme.README.read_text()) if block not in tested]
    assert others == ["make demo\n", "make test\n"]
