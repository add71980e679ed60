"""What becomes of a resident process when a job of it fails, hangs, or is asked to end."""

import asyncio
import contextlib
import os
import socket

import pytest

from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.supervisor import Supervisor

PATIENCE_S = 20.0


class Events(EventLog):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__("stderr")
        self.written = []

    def event(self, name, **fields):
        self.written.append((name, fields))


@pytest.fixture
def log():
    return Events()


async def ignores_its_cancellation():
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.Event().wait()


async def for_ever():
    await asyncio.Event().wait()


def run(log, scenario):
    """Run *scenario(supervisor)*, then wait for the end; return the supervisor."""

    async def main():
        supervisor = Supervisor(log)
        asyncio.get_running_loop().set_exception_handler(supervisor.loop_error)
        await scenario(supervisor)
        async with asyncio.timeout(PATIENCE_S):
            await supervisor.ended()
            await supervisor.cancel()
        return supervisor

    return asyncio.run(main())


def test_a_job_that_raises_is_logged_with_its_traceback_and_ends_the_process(log):
    async def breaks_somewhere_deep():
        await asyncio.sleep(0)
        raise KeyError("what nobody expected")

    async def scenario(supervisor):
        supervisor.start("others", for_ever)
        supervisor.start("commits", breaks_somewhere_deep)

    assert run(log, scenario).failed
    [(name, fields)] = log.written
    assert name == "unexpected"
    assert fields["what"] == "commits"
    assert fields["error"] == "KeyError('what nobody expected')"
    assert "in breaks_somewhere_deep" in fields["traceback"]


def test_a_job_that_returns_before_the_end_has_failed(log):
    async def returns():
        await asyncio.sleep(0)

    async def scenario(supervisor):
        supervisor.start("drain", returns)

    assert run(log, scenario).failed
    assert log.written[0][1]["error"] == "RuntimeError('it returned before the end')"


def test_the_end_that_was_asked_for_is_no_failure(log):
    async def scenario(supervisor):
        supervisor.start("commits", for_ever)
        await asyncio.sleep(0)
        supervisor.stop()

    supervisor = run(log, scenario)
    assert not supervisor.failed
    assert log.written == []


def test_a_job_that_fails_while_it_is_cancelled_is_logged(log):
    async def breaks_at_the_end():
        try:
            await for_ever()
        finally:
            raise ValueError("at the end")

    async def scenario(supervisor):
        supervisor.start("commits", breaks_at_the_end)
        await asyncio.sleep(0)
        supervisor.stop()

    assert run(log, scenario).failed
    assert log.written[0][1]["error"] == "ValueError('at the end')"


def test_a_request_and_a_guarded_block_cost_themselves_alone(log):
    async def breaks():
        raise ValueError("one request")

    async def scenario(supervisor):
        supervisor.start("commits", for_ever)
        supervisor.start_request("control", breaks())
        await asyncio.sleep(0.01)
        with supervisor.guard("answer"):
            raise ValueError("one answer")
        await asyncio.sleep(0)
        assert not supervisor.ending
        supervisor.stop()

    assert not run(log, scenario).failed
    assert [fields["what"] for _, fields in log.written] == ["control", "answer"]


def test_a_callback_of_the_loop_that_raises_ends_the_process(log):
    def breaks_in_a_callback():
        raise ValueError("one callback")

    async def scenario(supervisor):
        supervisor.start("commits", for_ever)
        asyncio.get_running_loop().call_soon(breaks_in_a_callback)

    assert run(log, scenario).failed
    assert "in breaks_in_a_callback" in log.written[0][1]["traceback"]


def test_a_job_that_something_else_has_cancelled_has_failed(log):
    async def waits_for_a_cancelled_future():
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async def scenario(supervisor):
        supervisor.start("commits", waits_for_a_cancelled_future)

    assert run(log, scenario).failed
    assert log.written[0][1]["error"] == "RuntimeError('it was cancelled before the end')"


def test_a_job_that_may_end_returns_or_is_cancelled_but_may_not_raise(log):
    async def returns():
        await asyncio.sleep(0)

    async def breaks():
        raise ValueError("a file")

    async def scenario(supervisor):
        supervisor.start("input", returns, may_end=True)
        supervisor.start("old file", for_ever, may_end=True).cancel()
        await asyncio.sleep(0.01)
        assert not supervisor.ending
        supervisor.start("file", breaks, may_end=True)

    assert run(log, scenario).failed
    assert [fields["what"] for _, fields in log.written] == ["file"]


class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, path, monkeypatch, limit_s):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", str(int(limit_s * 1e6)))
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

    def heard(self):
        """How many words have come since the last time."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(100) == b"WATCHDOG=1":
                count += 1
        return count


def test_the_watchdog_is_fed_while_work_goes_on_and_starves_when_it_does_not(
    log, tmp_path, monkeypatch
):
    limit_s = 0.3
    manager = Manager(tmp_path / "notify", monkeypatch, limit_s)
    oldest_s = 0.0

    async def heard_within_three_limits():
        # What is under way counts for the time before.
        await asyncio.sleep(limit_s)
        manager.heard()
        await asyncio.sleep(2 * limit_s)
        return manager.heard() > 0

    async def scenario(supervisor):
        nonlocal oldest_s
        supervisor.watch("commits", lambda: oldest_s)
        supervisor.start("watchdog", supervisor.feed_watchdog)
        assert await heard_within_three_limits()
        oldest_s = 2 * limit_s
        assert not await heard_within_three_limits()
        oldest_s = 0.1 * limit_s
        assert await heard_within_three_limits()
        supervisor.stop()

    run(log, scenario)
    assert log.written == [("stuck", {"what": "commits"})]


def test_a_check_that_raises_starves_the_watchdog(log, tmp_path, monkeypatch):
    manager = Manager(tmp_path / "notify", monkeypatch, 0.3)

    async def scenario(supervisor):
        supervisor.watch("commits", lambda: 1 / 0)
        supervisor.start("watchdog", supervisor.feed_watchdog)
        await asyncio.sleep(0.5)
        supervisor.stop()

    run(log, scenario)
    assert manager.heard() == 0
    assert log.written[0][1]["error"] == "ZeroDivisionError('division by zero')"


def raised(text):
    try:
        int(text)
    except ValueError as error:
        return error


def test_a_traceback_is_one_field_of_one_line():
    read, write = os.pipe()
    with os.fdopen(read, "rb") as lines:
        saved = os.dup(2)
        os.dup2(write, 2)
        try:
            EventLog("stderr").unexpected("a job", raised("two\nlines event=forged"))
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(write)
        text = lines.read().decode()
    assert text.count("\n") == 1
    assert 'traceback="Traceback (most recent call last):\\n' in text


def test_a_job_that_ignores_its_cancellation_is_not_waited_for(log):
    async def scenario(supervisor):
        supervisor.start("renewals", ignores_its_cancellation)
        supervisor.start("others", for_ever)
        await asyncio.sleep(0)
        supervisor.stop()

    assert not run(log, scenario).failed
    assert log.written == [("not_ended", {"what": "renewals"})]
