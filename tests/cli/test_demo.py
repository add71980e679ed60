"""The demo, with Postfix and without."""

import os
import subprocess
import sys

from tests.harness.directories import public_directory

POPBSMTP = os.path.join(os.path.dirname(sys.executable), "popbsmtp")


def demo(**environment):
    return subprocess.run(
        [POPBSMTP, "demo"],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_the_demo_goes_the_whole_way():
    done = demo()
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.endswith("demo: OK\n")
    assert done.stdout.count("$ postmap -q 198.51.100.7 sqlite:./popbsmtp-sqlite.cf\n") == 3


def test_the_demo_needs_no_root_and_leaves_nothing():
    folder = public_directory()
    folder.chmod(0o777)
    done = subprocess.run(
        [POPBSMTP, "demo"],
        capture_output=True,
        text=True,
        user="nobody",
        env={**os.environ, "TMPDIR": str(folder), "HOME": "/nonexistent"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(folder.iterdir()) == []


def test_the_demo_says_when_postfix_is_not_there():
    # Nothing to execute in place of Postfix's programs, for the demo's processes only.
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            'for p in postmap postconf; do mount --bind /dev/null /usr/sbin/$p; done; exec "$@"',
            "sh",
            POPBSMTP,
            "demo",
        ],
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith("demo: OK\n")
    assert done.stdout.count("no Postfix with SQLite here") == 3


def test_a_step_that_goes_otherwise_ends_the_demo_with_1(tmp_path):
    forgetful = tmp_path / "popbsmtp-wrap"
    forgetful.write_text(
        f"#!{sys.executable} -IS\nimport os, sys\nos.execv(sys.argv[3], sys.argv[3:])\n"
    )
    forgetful.chmod(0o755)
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            'mount --bind "$1" "$(dirname "$2")/popbsmtp-wrap"; shift; exec "$@"',
            "sh",
            str(forgetful),
            POPBSMTP,
            "demo",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "demo: OK" not in done.stdout
    assert done.stderr == "popbsmtp: demo: the lookup permits: False, expected: True\n"
