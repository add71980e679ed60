"""The thread beside the event loop, and what it says of itself."""

import asyncio
import threading

import pytest

from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.worker_thread import WorkerThread
from popbsmtp_wrap.errors import StoreUnavailableError

PATIENCE_S = 20


@pytest.fixture
def worker():
    worker = WorkerThread("test", StoreUnavailableError)
    yield worker
    worker.end()


def test_it_is_busy_until_its_work_is_done(worker):
    async def main():
        goes_on = threading.Event()
        assert not worker.is_busy
        asked = asyncio.create_task(worker.run(lambda: goes_on.wait(PATIENCE_S)))
        await asyncio.sleep(0)
        assert worker.is_busy
        goes_on.set()
        assert await asked
        assert not worker.is_busy

    asyncio.run(main())


def test_it_is_busy_with_what_nobody_waits_for_any_more(worker):
    async def main():
        begun, goes_on = threading.Event(), threading.Event()

        def work():
            begun.set()
            return goes_on.wait(PATIENCE_S)

        asked = asyncio.create_task(worker.run(work))
        await asyncio.sleep(0)
        assert begun.wait(PATIENCE_S)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        assert asked.cancelled()
        assert worker.is_busy
        goes_on.set()
        assert await worker.run(lambda: "next") == "next"
        assert not worker.is_busy

    asyncio.run(main())


def test_what_nobody_expected_is_an_error_of_ours(worker):
    with pytest.raises(StoreUnavailableError, match=r"^ZeroDivisionError: division by zero$"):
        asyncio.run(worker.run(lambda: 1 / 0))
    assert not worker.is_busy


def test_what_nobody_expected_is_logged_with_its_traceback():
    class Log(EventLog):
        def event(self, name, **fields):
            written.append((name, fields))

    def breaks_somewhere_deep():
        raise KeyError("what nobody expected")

    written = []
    worker = WorkerThread("database", StoreUnavailableError, Log("stderr"))
    with pytest.raises(StoreUnavailableError):
        asyncio.run(worker.run(breaks_somewhere_deep))
    worker.end()
    [(name, fields)] = written
    assert (name, fields["what"]) == ("unexpected", "database thread")
    assert "in breaks_somewhere_deep" in fields["traceback"]


def test_what_comes_after_its_end_fails_as_everything_else(worker):
    worker.end()
    with pytest.raises(StoreUnavailableError, match="takes no calls after its end"):
        asyncio.run(worker.run(lambda: "late"))
    assert not worker.is_busy
