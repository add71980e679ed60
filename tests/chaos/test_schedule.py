"""The schedule is the seed's alone."""

from tests.chaos import database_faults, recorder_faults  # noqa: F401 - they register
from tests.chaos.fault import FAULTS, weights
from tests.chaos.schedule import plan

WEIGHTS = {"kill": 2.0, "stop": 1.0, "lock": 1.0}


def test_same_seed_gives_the_same_schedule():
    assert plan(7, 60, WEIGHTS, 0.3) == plan(7, 60, WEIGHTS, 0.3)
    assert plan(7, 60, WEIGHTS, 0.3) != plan(8, 60, WEIGHTS, 0.3)


def test_every_fault_comes_before_any_comes_by_its_weight():
    first = [step.names[0] for step in plan(7, 60, WEIGHTS, 0.3)[: len(WEIGHTS)]]
    assert sorted(first) == sorted(WEIGHTS)


def test_two_faults_at_once_are_two_different_ones():
    steps = plan(7, 300, WEIGHTS, 1.0)
    assert any(len(step.names) == 2 for step in steps)
    assert all(len(set(step.names)) == len(step.names) for step in steps)


def test_a_restricted_schedule_has_the_named_faults_alone():
    assert set(weights("sqlite", ("kill_recorder",))) == {"kill_recorder"}
    assert "kill_database" not in weights("sqlite")
    assert "replace_file" not in weights("postgresql")
    assert set(FAULTS) == set(weights("sqlite")) | set(weights("mariadb"))
