"""popbsmtp postfix --check and nasty passwords, through the real postmap."""

import os
import stat
import subprocess
import sys

import pytest
from relay_world import POPBSMTP, SqliteWorld, new_world, shared_world

from tests.harness.directories import give

ADDRESS, OTHER = "198.51.100.7", "198.51.100.8"
PASSWORDS = [
    'it\'s "quoted" \\',
    "#a; b, c@d:e/f",
    "$name ${x} %s %%",
    "= {braces} ='",
    "pässwörd\\'",
]
BLANK_PASSWORDS = [" begins", "ends "]


def run(config, *arguments, **options):
    return subprocess.run(
        [POPBSMTP, "-c", str(config), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def check(config, directory, address=ADDRESS, **options):
    return run(config, "postfix", "--output", str(directory), "--check", address, **options)


@pytest.fixture(params=["pgsql", "mysql", "sqlite"])
def world(request):
    world = shared_world(request.param)
    world.clear()
    return world


@pytest.fixture
def maps(world):
    directory = world.home / "maps"
    directory.mkdir(exist_ok=True)
    world.popbsmtp("postfix", "--output", str(directory))
    return directory


def test_check_says_whether_the_live_map_permits(world, maps):
    table = f"{world.kind}:{maps}/popbsmtp-{world.kind}.cf"
    done = check(world.config, maps)
    assert done.returncode == 1
    assert done.stderr == f"popbsmtp: {ADDRESS} may not relay ({table})\n"
    world.plant(ADDRESS)
    done = check(world.config, maps)
    assert (done.returncode, done.stdout) == (0, f"{ADDRESS} may relay ({table})\n")
    assert check(world.config, maps, "::FFFF:C633:6407").returncode == 0
    assert check(world.config, maps, OTHER).returncode == 1
    world.plant(ADDRESS, 31 * 60)
    assert check(world.config, maps).returncode == 1


def test_the_written_map_is_for_postfix_only(world, maps):
    status = os.stat(maps / f"popbsmtp-{world.kind}.cf")
    expected = 0o644 if world.kind == "sqlite" else 0o640
    assert stat.S_IMODE(status.st_mode) == expected
    assert status.st_uid == 0


def test_check_without_the_map_file_is_a_matter_of_configuration(world, tmp_path):
    done = check(world.config, tmp_path)
    assert done.returncode == 78
    path = tmp_path / f"popbsmtp-{world.kind}.cf"
    assert done.stderr == (f"popbsmtp: {path} does not exist; run: popbsmtp postfix --output DIR\n")


def test_check_without_postfix_says_so(world, maps):
    # As on a machine where no PATH leads to Postfix: nothing else is needed.
    code = (
        "import sys; from popbsmtp_wrap.postfix import map_files;"
        " from popbsmtp_wrap.cli import main;"
        "map_files.search_path = lambda: '/nonexistent'; main.main()"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", code, "-c", str(world.config)),
            *("postfix", "--output", str(maps), "--check", ADDRESS),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 69
    assert done.stderr == (
        "popbsmtp: postmap is not there; install Postfix, or run this where it is\n"
    )


def test_check_finds_a_map_that_postfix_may_not_read(world, maps):
    path = maps / f"popbsmtp-{world.kind}.cf"
    give(path, "root:root", mode=0o600)
    done = check(world.config, maps)
    assert done.returncode == 75
    assert "Permission denied" in done.stderr
    assert str(path) in done.stderr


@pytest.mark.parametrize("kind", ["pgsql", "mysql"])
def test_check_of_a_database_that_is_down_may_be_tried_again(kind):
    world = shared_world(kind)
    directory = world.home / "down"
    directory.mkdir(exist_ok=True)
    config = world.write_config(directory / "popbsmtp.toml", ["127.0.0.1:1"])
    world.popbsmtp("postfix", "--output", str(directory), config=config)
    done = check(config, directory)
    assert done.returncode == 75
    assert "127.0.0.1" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "secret" not in done.stderr


def test_check_of_a_missing_sqlite_database_may_be_tried_again(tmp_path):
    world = shared_world("sqlite")
    directory = world.home / "missing"
    directory.mkdir(exist_ok=True)
    config = directory / "popbsmtp.toml"
    config.write_text(f'[database]\nurl = "sqlite:///{directory}/none.db"\n')
    world.popbsmtp("postfix", "--output", str(directory), config=config)
    assert check(config, directory).returncode == 75


def test_a_check_by_root_locks_nobody_out_of_sqlite():
    world = new_world("sqlite")
    assert isinstance(world, SqliteWorld)
    for path in (world.path, world.path.parent):
        os.chown(path, 65534, -1)
    maps = world.home / "maps"
    maps.mkdir()
    world.popbsmtp("postfix", "--output", str(maps))
    assert check(world.config, maps).returncode == 1
    for name in os.listdir(world.path.parent):
        assert os.stat(world.path.parent / name).st_uid != 0, name
    done = run(
        world.config,
        *("record", ADDRESS),
        user=65534,
        group="postfix",
        extra_groups=[os.stat(world.config).st_gid],
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert check(world.config, maps).returncode == 0
    for name in os.listdir(world.path.parent):
        assert os.stat(world.path.parent / name).st_uid != 0, name


def test_who_is_not_root_learns_what_to_type(tmp_path_factory):
    world = shared_world("pgsql")
    directory = world.home / "unprivileged"
    directory.mkdir(exist_ok=True)
    os.chown(directory, 65534, 65534)
    config = directory / "popbsmtp.toml"
    config.write_text('[database]\nurl = "postgresql://u@db.example.org/mail"\n')
    done = run(
        config, "postfix", "--output", str(directory), user=65534, group=65534, extra_groups=[]
    )
    path = directory / "popbsmtp-pgsql.cf"
    assert done.returncode == 0
    assert f"run as root: chown root:postfix {path}\n" in done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_the_shown_map_hides_the_password(world):
    shown = world.popbsmtp("postfix")
    assert "secret" not in shown
    assert ("***" in shown) == (world.kind != "sqlite")


@pytest.mark.parametrize(
    ("kind", "password"),
    [
        *(("pgsql", password) for password in PASSWORDS + BLANK_PASSWORDS),
        *(("mysql", password) for password in PASSWORDS),
    ],
)
def test_a_nasty_password_reaches_the_server(kind, password):
    world = shared_world(kind)
    world.clear()
    world.plant(ADDRESS)
    if kind == "pgsql":
        doubled = password.replace("'", "''")
        world.sql(f"DROP ROLE IF EXISTS nasty; CREATE ROLE nasty LOGIN PASSWORD '{doubled}'")
        world.sql("GRANT SELECT ON popbsmtp TO nasty")
    else:
        escaped = password.replace("\\", "\\\\").replace("'", "\\'")
        world.sql(f"CREATE OR REPLACE USER 'nasty'@'localhost' IDENTIFIED BY '{escaped}'")
        world.sql("GRANT SELECT ON mail.popbsmtp TO 'nasty'@'localhost'")
    directory = world.home / "nasty"
    directory.mkdir(exist_ok=True)
    secret = directory / "password"
    secret.touch(0o600)
    secret.write_text(password + "\n")
    host = world.ways["tcp" if kind == "pgsql" else "socket"]
    config = directory / "popbsmtp.toml"
    config.write_text(
        f'[database]\nurl = "{world.url()}"\n[postfix]\nuser = "nasty"\n'
        f'password_file = "{secret}"\nhosts = ["{host}"]\n'
    )
    config.chmod(0o600)
    world.popbsmtp("postfix", "--output", str(directory), config=config)
    done = check(config, directory)
    assert (done.returncode, done.stderr) == (0, "")
    assert check(config, directory, OTHER).returncode == 1
    if kind == "pgsql":
        world.sql("DROP OWNED BY nasty; DROP ROLE nasty")
