"""What the tests of popbsmtp-wrap share."""

import pytest

from tests.harness.directories import public_directory
from tests.servers.wrap_fixtures import Place, end_recorders


@pytest.fixture(scope="module")
def shared():
    return Place(public_directory())


@pytest.fixture
def place(shared):
    """A wrapper with an SQLite store that is empty, and nothing left of the test before."""
    end_recorders(shared.config)
    shared.configure()
    shared.clear()
    yield shared
    end_recorders(shared.config)
