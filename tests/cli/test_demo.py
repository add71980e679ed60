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
        f"#!{sys.executable} -IS\nimport os, sys\nos.execv(sys.argv[7], sys.argv[7:])\n"
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


# A machine where all of it is in use: a recorder at the default socket, with its spool and table.
LIVE_MACHINE = """
set -e
mount -t tmpfs tmpfs /run
for folder in /etc /var/lib /var/spool; do
    mkdir -p "$1/upper$folder" "$1/work$folder"
    layers="lowerdir=$folder,upperdir=$1/upper$folder,workdir=$1/work$folder"
    mount -t overlay overlay -o "$layers" "$folder"
done
mkdir /run/popbsmtp /etc/popbsmtp /var/lib/popbsmtp /var/spool/popbsmtp
echo "mynetworks = 198.51.100.0/24 nonsense" > /etc/postfix/main.cf
echo "[sessions]
renew = 0
[ignore]
postfix_mynetworks = false
[recorder]
user = ''" > /etc/popbsmtp/popbsmtp.toml
"$2" init
"$2" serve > /run/recorder.log 2>&1 &
recorder=$!
trap 'kill $recorder' EXIT
for _ in $(seq 600); do "$2" status >/dev/null 2>&1 && break; sleep 0.1; done
before=$(find /run/popbsmtp /etc/postfix /etc/popbsmtp /var/spool/popbsmtp | sort)
"$2" demo
test "$before" = "$(find /run/popbsmtp /etc/postfix /etc/popbsmtp /var/spool/popbsmtp | sort)"
echo "in the live table: $("$2" list --json | tr -d '\\n')"
"$2" status | grep -c '^logins\\.' || true
"""


def test_the_demo_touches_nothing_of_a_machine_with_a_recorder(tmp_path):
    command = ["unshare", "--mount", "sh", "-c", LIVE_MACHINE, "sh", str(tmp_path), POPBSMTP]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "demo: OK\nin the live table: []\n0\n" in done.stdout
    assert done.stderr == ""
