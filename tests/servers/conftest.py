"""What the tests of popbsmtp-wrap share."""

import pytest

from tests.harness.directories import public_directory
from tests.harness.process import wait_until
from tests.servers.wrap_fixtures import Place, recording_processes


@pytest.fixture(scope="module")
def shared():
    return Place(public_directory())


@pytest.fixture
def place(shared):
    """A wrapper with an SQLite store that is empty, and nothing left of the test before."""
    shared.configure()
    shared.clear()
    wait_until(lambda: not recording_processes(shared.config), 10, "the test before")
    return shared
