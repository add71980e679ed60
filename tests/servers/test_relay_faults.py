"""A database that is down, restarted or silent: inbound mail goes on, relaying waits for it."""

import time
from contextlib import ExitStack, contextmanager

import pytest
from relay_world import READER_PASSWORD, new_world

from tests.harness.faults import TcpProxy
from tests.harness.smtp_client import smtp_rcpt

CLIENT = "198.51.100.7"
# Postfix before 3.9 leaves a server that failed alone for this long (RETRY_CONN_INTV).
RETRY_S = 60
SLACK_S = 6


@pytest.fixture(scope="module")
def worlds():
    worlds = {kind: new_world(kind) for kind in ("pgsql", "mysql")}
    for world in worlds.values():
        world.plant(CLIENT)
    yield worlds
    for world in worlds.values():
        world.server.stop()


@pytest.fixture(params=["pgsql", "mysql"])
def world(request, worlds):
    return worlds[request.param]


def inbound(relay):
    started = time.monotonic()
    code = smtp_rcpt(relay.port, CLIENT, "bob@example.org")[0]
    return code, time.monotonic() - started


def wait_for_recovery(relays, limit_s):
    """Return after how many seconds each relay works, asking it every second."""
    started = time.monotonic()
    recovered = {}
    while len(recovered) < len(relays):
        passed = time.monotonic() - started
        assert passed < limit_s, f"only {recovered} within {limit_s} s"
        for relay in relays:
            if relay.world.kind not in recovered:
                code = smtp_rcpt(relay.port, CLIENT)[0]
                assert code in (250, 451)
                if code == 250:
                    recovered[relay.world.kind] = passed
        time.sleep(1)
    return recovered


@contextmanager
def behind_proxy(world):
    host, port = world.ways["tcp"].split(":")
    with TcpProxy(host, int(port)) as proxy:
        relay = world.relay(hosts=[f"127.0.0.1:{proxy.port}"], chroot=True)
        try:
            yield proxy, relay
        finally:
            relay.postfix.stop()


@pytest.mark.slow
def test_a_database_that_is_down_stops_relaying_only_and_comes_back(worlds, record_property):
    with ExitStack() as stack:
        pairs = [stack.enter_context(behind_proxy(world)) for world in worlds.values()]
        for proxy, relay in pairs:
            proxy.mode = "refuse"
            code, text = smtp_rcpt(relay.port, CLIENT)
            assert code == 451, text
            assert smtp_rcpt(relay.port, "203.0.113.9")[0] == 451
            code, seconds = inbound(relay)
            assert code == 250
            assert seconds < 2
            log = relay.postfix.log_text()
            assert READER_PASSWORD not in log
            assert "secret" not in log
            proxy.mode = "pass"
        # 61 s on Postfix 3.7.
        recovered = wait_for_recovery([relay for _, relay in pairs], RETRY_S + SLACK_S)
        record_property("recovered_after_s", recovered)
        for _, relay in pairs:
            assert smtp_rcpt(relay.port, "203.0.113.9")[0] == 554


def test_a_reload_ends_the_waiting_for_a_database_that_is_back(world):
    with behind_proxy(world) as (proxy, relay):
        proxy.mode = "refuse"
        assert smtp_rcpt(relay.port, CLIENT)[0] == 451
        proxy.mode = "pass"
        relay.postfix.reload()
        assert smtp_rcpt(relay.port, CLIENT)[0] == 250


def test_a_restart_that_no_lookup_falls_into_costs_nothing(world):
    relay = world.relay("tcp")
    assert smtp_rcpt(relay.port, CLIENT)[0] == 250
    world.server.stop()
    world.server.start()
    assert smtp_rcpt(relay.port, CLIENT)[0] == 250
    assert smtp_rcpt(relay.port, "203.0.113.9")[0] == 554
    relay.postfix.stop()


def test_a_database_that_accepts_and_never_answers_delays_an_attempt_for_seconds(world):
    with behind_proxy(world) as (proxy, relay):
        proxy.mode = "hang"
        started = time.monotonic()
        assert smtp_rcpt(relay.port, CLIENT, timeout_s=60)[0] == 451
        seconds = time.monotonic() - started
        # Twice the time-out and Postfix's own pauses: 6 s.
        assert seconds < 15
        code, seconds = inbound(relay)
        assert code == 250
        assert seconds < 2
        # Later attempts do not wait: the server is known to be bad.
        started = time.monotonic()
        assert smtp_rcpt(relay.port, CLIENT)[0] == 451
        assert time.monotonic() - started < 2


def test_inbound_mail_does_not_notice_a_silent_database(world):
    with behind_proxy(world) as (proxy, relay):
        assert smtp_rcpt(relay.port, CLIENT)[0] == 250
        proxy.mode = "hang"
        for _ in range(3):
            code, seconds = inbound(relay)
            assert code == 250
            assert seconds < 2


def test_a_wrong_password_is_a_temporary_error_and_stays_out_of_the_log(world):
    wrong = world.home / "wrong.password"
    wrong.touch(0o600)
    wrong.write_text("hunter2 'quoted'\n")
    account, world.account = world.account, f'user = "reader"\npassword_file = "{wrong}"\n'
    try:
        relay = world.relay("tcp")
    finally:
        world.account = account
    assert smtp_rcpt(relay.port, CLIENT)[0] == 451
    assert inbound(relay)[0] == 250
    assert "hunter2" not in relay.postfix.log_text()
    relay.postfix.stop()
