"""TLS to MariaDB: used where the server offers it, as PyMySQL does by itself."""

import subprocess

import pytest
from pymysql.connections import Connection

from popbsmtp_wrap.config import Database
from popbsmtp_wrap.store.engine import open_store, transaction
from tests.harness.directories import public_directory
from tests.harness.mariadb import MariaDB

# Since 1.1.1 it asks for TLS without being told to.
PREFERS_TLS = hasattr(Connection(defer_connect=True), "_ssl_required")


@pytest.fixture(scope="module")
def server():
    folder = public_directory()
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"],
            *[
                "-subj",
                "/CN=db.example.org",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-keyout",
                key,
                "-out",
                certificate,
            ],
        ],
        check=True,
        capture_output=True,
    )
    key.chmod(0o644)
    with MariaDB(folder, settings={"ssl_cert": str(certificate), "ssl_key": str(key)}) as running:
        running.create_database("mail")
        yield running


def cipher(url):
    with transaction(open_store(Database(url=url))) as connection:
        found = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Ssl_cipher'").one()
    return found[1]


def test_tcp_is_encrypted_where_the_server_offers_it(server):
    assert bool(cipher(server.url("mail"))) == PREFERS_TLS


def test_tls_can_be_switched_off(server):
    assert cipher(server.url("mail") + "?ssl_disabled=true") == ""


def test_tls_can_be_demanded_and_checked(server):
    path = server.log_path.parent / "certificate.pem"
    url = f"{server.url('mail')}?ssl_ca={path}"
    assert cipher(url) != ""


def test_a_unix_socket_needs_none(server):
    url = server.url("mail").rpartition("@")[0] + f"@localhost/mail?unix_socket={server.socket}"
    assert cipher(url) == ""
