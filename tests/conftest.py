"""What every test run needs: the servers, root, and their versions in the header."""

import contextlib
import os
import subprocess

import pytest

from tests.harness import workers
from tests.harness.directories import share_templates
from tests.harness.process import missing_programs

with contextlib.suppress(ImportError):  # the environment of lowest versions has no hypothesis
    import hypothesis

    # A busy machine says nothing about our code.
    hypothesis.settings.register_profile(
        "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("busy")

_VERSIONS = (
    ["postconf", "-dh", "mail_version"],
    ["dovecot", "--version"],
    ["/usr/sbin/mariadbd", "--version"],
)


def pytest_configure(config):
    if os.geteuid() == 0:
        workers.hide_what_is_installed()
    if is_worker(config):
        if os.geteuid() == 0:
            workers.leave_the_hosts_network()
    elif config.getoption("numprocesses", default=None):
        share_templates()


def is_worker(config):
    return hasattr(config, "workerinput")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return workers.scheduler(config, log)


def pytest_report_header():
    lines = []
    for command in _VERSIONS:
        path = os.environ["PATH"] + ":/usr/sbin"
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env={**os.environ, "PATH": path}
            )
        except FileNotFoundError:
            continue
        lines.append(f"{os.path.basename(command[0])}: {done.stdout.strip()}")
    return lines


def pytest_collection_modifyitems(config, items):
    if is_worker(config):
        items.sort(key=lambda item: workers.rank(item.nodeid))
    else:
        require_servers(item.nodeid for item in items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(ids):
    require_servers(ids)


def require_servers(nodeids):
    """A missing server is a failure, never a skip."""
    if not {workers.folder(nodeid) for nodeid in nodeids} & {"chaos", "servers", "store"}:
        return
    if missing := missing_programs():
        pytest.exit(f"missing servers: {' '.join(missing)}; run: make test", returncode=1)
    if os.geteuid() != 0:
        pytest.exit("Postfix and Dovecot start as root; run: sudo make test", returncode=1)
