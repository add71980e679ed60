"""Little memory, few processes and descriptors, a full pipe, signals: the program runs."""

import contextlib
import os
import resource
import signal
import subprocess

import pytest

from tests.harness.directories import public_directory
from tests.servers.wrap_fixtures import (
    GREETING,
    LOGIN,
    RECORDED,
    SLACK_S,
    Place,
    end_recorders,
    launcher,
    only_recorder,
    recording_processes,
    run,
    session,
)

# Nobody's: it has no other process that RLIMIT_NPROC would count.
STRANGER = 54321
WAIT_S = 2.0


@pytest.fixture
def path():
    return public_directory()


@pytest.mark.parametrize("kind", ["full", "closed", "nobody reads"])
def test_standard_error_that_takes_nothing_delays_nothing(path, kind):
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with contextlib.suppress(BlockingIOError):
        while kind == "full":
            os.write(writes, b"x" * 4096)
    os.set_blocking(writes, True)
    if kind == "nobody reads":
        os.close(reads)
    command = [launcher(), "--config", "/no/such/file", *GREETING]
    ended = session(
        command,
        LOGIN,
        stderr=writes,
        prepare=(lambda: os.close(2)) if kind == "closed" else None,
        timeout_s=20,
    )
    assert ended.seconds < WAIT_S + SLACK_S


@pytest.mark.parametrize("processes", [1, 2])
def test_program_runs_when_no_process_can_be_started(processes):
    place = Place(public_directory(), owner=STRANGER)
    limit = (processes, processes)
    ended = session(
        place.command(*GREETING),
        LOGIN,
        user=STRANGER,
        group=STRANGER,
        prepare=lambda: resource.setrlimit(resource.RLIMIT_NPROC, limit),
    )
    (line,) = ended.lines
    assert line.endswith(
        "not recorded: no recording process: [Errno 11] Resource temporarily unavailable"
    )
    assert ended.seconds < SLACK_S


def test_256_megabytes_suffice(place):
    limit = (256 << 20, 256 << 20)
    prepare = lambda: resource.setrlimit(resource.RLIMIT_AS, limit)  # noqa: E731
    assert session(place.command(*GREETING), LOGIN, prepare=prepare).lines == []
    assert place.rows() == RECORDED


@pytest.mark.parametrize("number", range(4, 17))
def test_program_runs_with_few_descriptors(place, number):
    limit = (number, number)
    ended = run(
        place.command(*GREETING),
        LOGIN,
        prepare=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit),
    )
    assert (ended.status, ended.stdout) == (0, b"* OK ready\r\n")
    assert len(ended.lines) == (0 if place.rows() else 1)
    # The recorder has an event loop, which takes three. It has more where it may raise the limit.
    if number >= 12:
        assert place.rows() == RECORDED


def test_descriptors_above_a_lowered_limit_are_not_held_in_the_background(path):
    config = path / "popbsmtp.toml"
    os.mkfifo(config)
    reads, writes = os.pipe()

    def prepare():
        os.dup2(writes, 500)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    command = [launcher(), "--wait", "0.3", "--config", str(config), "/bin/true"]
    assert run(command, LOGIN, prepare=prepare, close_fds=False).status == 0
    os.close(writes)
    only_recorder(config)
    assert os.read(reads, 1) == b""
    end_recorders(config)


@pytest.mark.parametrize("whole_group", [False, True])
def test_sigterm_ends_the_wrapper_and_not_its_recorder(path, whole_group):
    config = path / "popbsmtp.toml"
    os.mkfifo(config)
    command = [launcher(), "--wait", "30", "--config", str(config), "/bin/true"]
    with subprocess.Popen(command, env=LOGIN, process_group=0) as process:
        pid = only_recorder(config)
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
    assert recording_processes(config) == [pid]
    end_recorders(config)


def test_zombies_are_not_left_to_the_program(place):
    ended = run(place.command("/bin/sh", "-c", "ps -o stat= --ppid $$; :"), LOGIN)
    assert "Z" not in ended.stdout.decode()
    assert place.rows() == RECORDED
