"""The generated map and the recorder reach the same server, and ask as much of its certificate."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.directories import give, public_directory, write
from tests.harness.mariadb import MariaDB
from tests.harness.postgres import Postgres

POPBSMTP = str(Path(sys.executable).with_name("popbsmtp"))
ADDRESS = "198.51.100.7"


def certificate(folder, name, subject):
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName={subject}"),
            *("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"),
        ],
        check=True,
        capture_output=True,
    )
    (folder / f"{name}.key").chmod(0o644)


class Site:
    """A database server and what recorder and Postfix make of URLs to it."""

    def __init__(self, folder, name="", kind=MariaDB):
        self.folder = folder
        files = {"ssl_cert": f"{folder}/{name}.pem", "ssl_key": f"{folder}/{name}.key"}
        settings = files if name else {}
        if name and kind is Postgres:
            # It refuses a key that others can read.
            give(folder / f"{name}.key", "postgres", mode=0o600)
            settings = {"ssl": "on", "ssl_cert_file": files["ssl_cert"]}
            settings["ssl_key_file"] = files["ssl_key"]
        self.server = kind(folder, settings=settings)
        self.map = "pgsql" if kind is Postgres else "mysql"

    def run(self, options, hosts=""):
        """Return what `popbsmtp check` and `postmap -q` end with for an address that may relay."""
        account = f"{self.server.superuser}:{self.server.password}"
        hosts = hosts or f"127.0.0.1:{self.server.port}"
        url = f"{self.server.scheme}://{account}@{hosts}/mail{options}"
        config = write(self.folder / "popbsmtp.toml", f'[database]\nurl = "{url}"\n', mode=0o600)
        return self._run(config)

    def _run(self, config):
        checked = self.popbsmtp(config, "check", ADDRESS)
        made = self.popbsmtp(config, "postfix", "--output", str(self.folder))
        if made.returncode:
            return checked.returncode, made.returncode
        asked = subprocess.run(
            [
                "/usr/sbin/postmap",
                "-q",
                ADDRESS,
                f"{self.map}:{self.folder}/popbsmtp-{self.map}.cf",
            ],
            capture_output=True,
            text=True,
        )
        return checked.returncode, asked.stdout.strip() or asked.returncode

    def popbsmtp(self, config, *arguments):
        return subprocess.run(
            [POPBSMTP, "-c", str(config), *arguments], capture_output=True, text=True, timeout=60
        )

    def fill(self):
        self.server.create_database("mail")
        url = self.server.url("mail")
        url += "?ssl_disabled=true" if self.map == "mysql" else "?sslmode=disable"
        config = write(self.folder / "fill.toml", f'[database]\nurl = "{url}"\n', mode=0o600)
        assert self.popbsmtp(config, "init").returncode == 0
        assert self.popbsmtp(config, "record", ADDRESS).returncode == 0


@pytest.fixture(scope="module")
def folder():
    made = public_directory()
    certificate(made, "right", "IP:127.0.0.1")
    certificate(made, "wrong", "DNS:other.example.org")
    certificate(made, "foreign", "IP:127.0.0.1")
    return made


BOTH, NEITHER = (0, "OK"), (75, 1)


@pytest.mark.parametrize("name", ["right", "wrong", ""])
def test_map_and_recorder_ask_the_same_of_a_certificate(folder, name):
    site = Site(folder, name)
    with site.server:
        site.fill()
        ca = f"?ssl_ca={folder}/{name or 'right'}.pem"
        assert site.run("") == BOTH
        assert site.run("?ssl_disabled=true") == BOTH
        right_name = BOTH if name == "right" else NEITHER
        assert site.run(ca) == right_name
        assert site.run(f"{ca}&ssl_verify_identity=true") == right_name
        assert site.run(f"?ssl_ca={folder}/foreign.pem") == NEITHER
        assert site.run(f"{ca}&ssl_check_hostname=false")[1] == 78
        if name == "right":
            site.server.sql("CREATE USER safe@'%' IDENTIFIED BY 'x' REQUIRE SSL")
            site.server.sql("GRANT SELECT ON mail.* TO safe@'%'")
            url = f"mysql://safe:x@127.0.0.1:{site.server.port}/mail"
            config = write(folder / "safe.toml", f'[database]\nurl = "{url}"\n', mode=0o600)
            assert site._run(config) == BOTH
            plain = write(
                folder / "plain.toml", f'[database]\nurl = "{url}?ssl_disabled=true"\n', mode=0o600
            )
            assert site._run(plain)[0] != 0
            assert site._run(plain)[1] == 1


@pytest.mark.parametrize("name", ["right", "wrong", ""])
def test_pgsql_map_and_recorder_ask_the_same_of_a_certificate(folder, name):
    site = Site(folder, name, Postgres)
    with site.server:
        site.fill()
        root = f"sslrootcert={folder}/{name or 'right'}.pem"
        encrypted = BOTH if name else NEITHER
        assert site.run("") == BOTH
        assert site.run("?sslmode=disable") == BOTH
        assert site.run("?sslmode=require") == encrypted
        assert site.run(f"?sslmode=verify-ca&{root}") == encrypted
        right_name = BOTH if name == "right" else NEITHER
        assert site.run(f"?sslmode=verify-full&{root}") == right_name
        foreign = f"sslrootcert={folder}/foreign.pem"
        for mode in ("verify-ca", "verify-full"):
            assert site.run(f"?sslmode={mode}&{foreign}") == NEITHER
        # libpq checks the authority, as for verify-ca, where it finds its certificate.
        assert site.run(f"?sslmode=require&{foreign}") == NEITHER
        if name:
            demand = "hostnossl all all all reject\nhostssl all all all scram-sha-256\n"
            (site.server.data / "pg_hba.conf").write_text(f"local all all trust\n{demand}")
            site.server.sql("SELECT pg_reload_conf()")
            assert site.run("") == BOTH
            assert site.run("?sslmode=disable") == (77, 1)


def test_hosts_are_tried_in_order_by_map_and_recorder(folder):
    site = Site(folder)
    with site.server, socket.create_server(("127.0.0.1", 0)) as silent:
        site.fill()
        port, dumb = site.server.port, silent.getsockname()[1]
        for hosts, options in (
            (f"127.0.0.1:1,127.0.0.1:{port}", ""),
            (f"[::1]:1,127.0.0.1:{port}", ""),
            ("", f"?host=127.0.0.1,127.0.0.1&port=1,{port}"),
            ("", f"?host=127.0.0.1:1&host=127.0.0.1:{port}"),
            ("", f"?host=127.0.0.1:1&host={site.server.socket}"),
            (f"127.0.0.1:{dumb},127.0.0.1:{port}", ""),
        ):
            assert site.run(options, hosts or "ignored.invalid") == BOTH, (hosts, options)


def test_error_names_every_hosts_trouble(folder):
    site = Site(folder)
    for scheme in ("mysql", "postgresql"):
        url = f"{scheme}://u:hunter2@127.0.0.1:1,127.0.0.1:2/mail"
        config = write(folder / "down.toml", f'[database]\nurl = "{url}"\n', mode=0o600)
        done = site.popbsmtp(config, "check", ADDRESS)
        assert done.returncode == 75
        reason = done.stderr.partition("/mail: ")[2]
        assert "127.0.0.1:1" in reason or "port 1 " in reason
        assert "127.0.0.1:2" in reason or "port 2 " in reason
        assert "hunter2" not in done.stderr


def test_read_only_standby_is_passed_over_when_the_url_says_so(folder):
    with Postgres(folder) as primary:
        primary.create_database("mail")
        with Postgres(folder, standby_of=primary) as standby:
            hosts = f"127.0.0.1:{standby.port},127.0.0.1:{primary.port}"
            url = f"postgresql://postgres:{primary.password}@{hosts}/mail"
            url += "?target_session_attrs=read-write"
            config = write(folder / "pg.toml", f'[database]\nurl = "{url}"\n', mode=0o600)
            site = Site(folder, kind=Postgres)
            for arguments in (["init"], ["record", ADDRESS], ["check", ADDRESS]):
                done = site.popbsmtp(config, *arguments)
                assert done.returncode == 0, done.stderr
            assert site._run(config) == BOTH
