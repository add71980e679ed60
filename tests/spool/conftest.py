"""An empty spool."""

import pytest

from popbsmtp_wrap.spool.directory import lock
from tests.harness.directories import public_directory
from tests.spool.waiting import SIZE


@pytest.fixture
def path():
    return public_directory()


@pytest.fixture
def spool(path):
    with lock(str(path), SIZE) as spool:
        yield spool
