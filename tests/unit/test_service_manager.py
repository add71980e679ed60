"""What a service manager and its service tell each other."""

import os
import socket

import pytest

from popbsmtp_wrap.daemon import service_manager


def test_without_a_manager_nothing_is_passed_and_nobody_is_told():
    assert service_manager.passed_sockets({}) == {}
    service_manager.notify("READY=1", environment={})
    assert service_manager.watchdog_s({}) is None


def test_sockets_for_another_process_are_left_alone():
    environment = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}
    assert service_manager.passed_sockets(environment) == {}
    assert environment == {}


@pytest.mark.parametrize("abstract", [False, True])
def test_the_manager_hears_every_line(tmp_path, abstract):
    path = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + path if abstract else path)
        address = "@" + path if abstract else path
        service_manager.notify("READY=1", "STATUS=x", environment={"NOTIFY_SOCKET": address})
        manager.settimeout(5)
        assert manager.recv(100) == b"READY=1\nSTATUS=x"


def test_a_manager_that_has_gone_is_no_trouble(tmp_path):
    service_manager.notify("READY=1", environment={"NOTIFY_SOCKET": f"{tmp_path}/gone"})


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
    ],
)
def test_the_watchdog_is_heeded_when_it_is_for_us(environment, seconds):
    assert service_manager.watchdog_s(environment) == seconds
