"""Each contract of pyproject.toml holds, covers every module, and can fail."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.harness.machine import REPOSITORY

LINTER = Path(sys.executable).with_name("lint-imports")
CONTRACTS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
DIRECTION = "one direction only"
SQLALCHEMY = "SQLAlchemy and drivers in the store alone"
NO_SQL = "a source speaks no SQL, nor what is below it"
NEVER_WRITES = "a lookup never writes"
NO_CONNECTION = "a lookup gets no connection of its own"
C_LEVEL = "the login path imports C-level modules alone"


def contract(name):
    (found,) = [one for one in CONTRACTS if one["name"] == name]
    return found


@pytest.fixture
def copy(tmp_path):
    """A copy of the package with the contracts."""
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "popbsmtp_wrap", tmp_path / "popbsmtp_wrap", ignore=ignored)
    return tmp_path


def lint(path):
    """Return the names of the contracts that are broken in *path*, and what the linter says."""
    done = subprocess.run(
        [LINTER, "--no-cache"], cwd=path, capture_output=True, text=True, timeout=120
    )
    names = [one["name"] for one in CONTRACTS]
    assert all(name in done.stdout for name in names), done.stdout + done.stderr
    found = {name for name in names if f"{name} BROKEN" in done.stdout}
    assert bool(found) == bool(done.returncode)
    return found, done.stdout


def inject(copy, module, imported, inside=""):
    """Have a module import another one: at its end, or *inside* a function."""
    path = copy / "popbsmtp_wrap" / f"{module.replace('.', '/')}.py"
    path.write_text(f"{path.read_text()}\n\n{inside}import {imported}\n")


def test_contracts_hold(copy):
    assert lint(copy)[0] == set()


FUNCTION = "def f() -> None:\n    "
FORBIDDEN = {
    DIRECTION: [
        ("spool.files", "popbsmtp_wrap.recorder.service"),
        ("postfix.map_files", "popbsmtp_wrap.dovecot.doveconf"),
        ("wire", "popbsmtp_wrap.login"),
    ],
    SQLALCHEMY: [
        ("watch.line_handler", "sqlalchemy"),
        ("logs.site_pattern", "sqlite3"),
        ("logs.header", "psycopg2"),
        ("cli.logins", "pymysql", FUNCTION),
    ],
    NO_SQL: [
        ("protocols.script_login", "popbsmtp_wrap.store.engine"),
        ("watch.submission", "popbsmtp_wrap.recorder.async_database"),
        ("spool.record", "popbsmtp_wrap.store.sqlite_files", FUNCTION),
        ("login", "sqlalchemy"),
    ],
    NEVER_WRITES: [
        ("postfix.maps", "popbsmtp_wrap.store.upsert"),
        ("postfix.account", "popbsmtp_wrap.store.renewal", FUNCTION),
        ("store.lookup_query", "popbsmtp_wrap.store.batch"),
        ("store.sqlite_files", "popbsmtp_wrap.store.setup"),
    ],
    NO_CONNECTION: [("postfix.map_files", "popbsmtp_wrap.store.engine")],
    C_LEVEL: [
        ("wire", "asyncio"),
        ("address", "ipaddress"),
        ("wrapper.wrap", "socket"),
        ("wrapper.full_queue", "popbsmtp_wrap.spool.timestamp"),
        ("wrapper.linger", "click", FUNCTION),
    ],
}


def test_every_contract_is_tried():
    assert set(FORBIDDEN) == {one["name"] for one in CONTRACTS}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_contract_is_broken_by_each_forbidden_import(copy, name):
    for module, imported, *inside in FORBIDDEN[name]:
        inject(copy, module, imported, *inside)
    found, said = lint(copy)
    assert name in found
    # A contract's own part of the report follows its name, underlined.
    part = re.split(rf"^{re.escape(name)}\n-+$", said, flags=re.MULTILINE)[1]
    part = re.split(r"^.+\n-{3,}$", part, flags=re.MULTILINE)[0]
    for module, imported, *_ in FORBIDDEN[name]:
        assert f"popbsmtp_wrap.{module} -> {imported}" in part, part


def top_level():
    """Return the modules and packages directly below popbsmtp_wrap."""
    found = (REPOSITORY / "popbsmtp_wrap").iterdir()
    # Not what an older checkout has left of a directory.
    found = [path for path in found if path.suffix == ".py" or (path / "__init__.py").exists()]
    names = {path.name.removesuffix(".py") for path in found}
    return {f"popbsmtp_wrap.{name}" for name in names - {"__init__"}}


def test_contract_about_sqlalchemy_names_every_module_but_the_store():
    assert set(contract(SQLALCHEMY)["source_modules"]) == top_level() - {"popbsmtp_wrap.store"}


def test_layers_name_every_module_but_the_login_path():
    layers = {one for layer in contract(DIRECTION)["layers"] for one in layer.split(" | ")}
    assert layers == top_level() - {"popbsmtp_wrap.wrapper", "popbsmtp_wrap.chain"}


def test_contract_about_writing_names_every_module_of_the_store_that_can():
    """A new module of the store is one of these, or is named here as one that reads."""
    reading = {"cancelling", "dialects", "engine", "lookup_query", "queries", "schema"}
    reading |= {"sqlite_files", "timeouts", "tombstone", "within", "difference", "key_differences"}
    reading |= {"unique_keys"}
    found = (REPOSITORY / "popbsmtp_wrap" / "store").iterdir()
    names = {path.name.removesuffix(".py") for path in found} - {"__init__", "__pycache__"}
    writing = {f"popbsmtp_wrap.store.{name}" for name in names - reading}
    assert set(contract(NEVER_WRITES)["forbidden_modules"]) == writing
