"""What a reload leaves behind: nothing of the recorder may go on with settings from before.

A recorder runs in this process with one configuration and adopts another one, of which every value
is different. Then all objects that can be reached from it are looked through for the old values.
"""

import asyncio
import gc
import sqlite3
import sys
import time
import types
from contextlib import closing, suppress
from dataclasses import fields, is_dataclass
from functools import partial

import pytest

from popbsmtp_wrap import config
from popbsmtp_wrap.recorder.service import _ONLY_AT_START, Service
from popbsmtp_wrap.server.listeners import Listeners
from popbsmtp_wrap.store.engine import open_store
from popbsmtp_wrap.store.setup import create
from popbsmtp_wrap.store.sqlite_files import prepare
from popbsmtp_wrap.wire import format_request
from tests.harness.directories import public_directory, write
from tests.harness.reachable import search
from tests.servers.recorder_place import PATIENCE_S, dovecot_request

OLD, NEW = 0, 1
# No value to look for: there are too few of them. Their effect is tested one by one.
INDISTINCT = {
    "ignore.postfix_mynetworks",
    "ignore.own_addresses",
    "watch.journal",
    "watch.forgeable",
    "recorder.log",
    "recorder.refuse_shared",
    # A user has to exist on this machine: mail and news are in many strings.
    "recorder.user",
    "recorder.users",
    "recorder.socket_owner",
    "recorder.socket_group",
    "recorder.socket_mode",
}
# What an object makes of a number of seconds when it copies it: milliseconds, shares, a rate.
FACTORS = (1, 1000, 1e6, 1e9, 1 / 2, 1 / 3, 1 / 4, 1 / 60, 0.4, 0.2, 2)


def values(folder, which, *, same_sockets=False):
    """Return a configuration of which every value is another one for OLD and for NEW.

    With *same_sockets* all but the sockets: what serves them lives on.
    """
    name = ("bygone", "current")[which]
    number = (1, 2)[which]
    place = "kept" if same_sockets else name
    return {
        "grace": (171717, 282828)[which],
        "database": {
            "url": f"sqlite:///{folder}/{name}.db",
            "password_file": f"{folder}/{name}-password",
            "table": f"{name}_table",
            "address_column": f"{name}_address",
            "last_seen_column": f"{name}_last_seen",
            "first_seen_column": f"{name}_first_seen",
            "user_column": f"{name}_user",
            "service_column": f"{name}_service",
            "connect_timeout": (17.171, 28.282)[which],
        },
        "ignore": {
            "networks": [f"192.0.{number}.0/24"],
            "postfix_mynetworks": False,
            "own_addresses": False,
        },
        "wrapper": {"wait": (3.131, 4.242)[which], "linger": (613.1, 624.2)[which]},
        "recorder": {
            "socket": f"{folder}/{place}.sock",
            "postlogin": [{"path": f"{folder}/{place}-imap.sock", "service": f"{place}-imap"}],
            "socket_mode": "0600",
            "socket_owner": "",
            "socket_group": "",
            "user": "",
            "users": [],
            "refresh": (151.515, 262.626)[which],
            "reply_timeout": (16.161, 27.272)[which],
            "spool": f"{folder}/spool",
            "spool_size": (77777777, 88888888)[which],
            "shared_users": (717, 828)[which],
            "refuse_shared": False,
            "log": "stderr",
        },
        "postfix": {
            "hosts": [f"{name}.example.org"],
            "user": f"{name}-reader",
            "password_file": f"{folder}/{name}-reader-password",
        },
        "watch": {
            "files": [f"{folder}/{name}.log"],
            "servers": [f"{name}-server"],
            "journal": False,
            "journal_units": {f"{name}-server": [f"{name}.service"]},
            "state": f"{folder}/{name}-state",
            "max_session": (14141, 25252)[which],
            "pattern": [],
            "forgeable": "refuse",
        },
        "sessions": {
            "renew": (18181.8, 29292.9)[which],
            "doveadm": [f"{folder}/{name}-doveadm"],
        },
    }


def leaves(settings, prefix=""):
    """Yield name and value of every key of *settings*."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            yield from leaves(value, f"{field.name}.")
        else:
            yield f"{prefix}{field.name}", value


class Traces:
    """The old values, and what may have been made of them."""

    def __init__(self, old, new, kept):
        """*kept* are the keys that count from the next start on."""
        unique = {
            key: value
            for (key, value), (_, other) in zip(leaves(old), leaves(new), strict=True)
            if value != other and key not in kept
        }
        self._sections = {id(old): "Settings"}
        self._sections |= {
            id(getattr(old, field.name)): field.name
            for field in fields(old)
            if is_dataclass(getattr(old, field.name))
        }
        self._numbers = {
            value * factor: key
            for key, value in unique.items()
            if isinstance(value, int | float)
            for factor in FACTORS
        }
        self._tuples = {value: key for key, value in unique.items() if isinstance(value, tuple)}
        # An empty tuple is everybody's.
        self._tuples.pop((), None)
        self._networks = dict.fromkeys(old.ignore.networks, "ignore.networks")

    def of(self, thing):
        """Return which key *thing* is a trace of, None if it is of none."""
        if id(thing) in self._sections:
            return self._sections[id(thing)]
        if isinstance(thing, bool):
            return None
        if isinstance(thing, int | float):
            return self._numbers.get(thing)
        if isinstance(thing, str | bytes):
            text = thing if isinstance(thing, str) else thing.decode("latin-1")
            # Every text of the old configuration has this in it.
            return repr(text) if "bygone" in text else None
        with suppress(TypeError):
            return self._tuples.get(thing) or self._networks.get(thing)
        return None


def roots(service):
    """Return the service and all global objects of the package."""
    found = [service]
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "popbsmtp_wrap":
            found += [thing for key, thing in vars(module).items() if not key.startswith("__")]
    return found


class Running:
    """A recorder of this process."""

    def __init__(self, folder, **options):
        self.folder = folder
        self.settings = [
            config.parse(values(folder, which, **options), "popbsmtp.toml") for which in (OLD, NEW)
        ]
        (folder / "spool").mkdir(mode=0o700)
        for settings, name in zip(self.settings, ("bygone", "current"), strict=True):
            write(folder / f"{name}-password", "", mode=0o600)
            prepare(settings.database)
            create(open_store(settings.database))
            doveadm = folder / f"{name}-doveadm"
            doveadm.write_text("#!/bin/sh\nexit 1\n")
            doveadm.chmod(0o755)

    def locked(self, which):
        """Return a connection that keeps the database of one configuration locked."""
        path = self.settings[which].database.url.removeprefix("sqlite:///")
        connection = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S)
        connection.execute("BEGIN EXCLUSIVE")
        return closing(connection)

    async def log_in(self, which, number):
        """Log in by both protocols, and return when both are answered."""
        recorder = self.settings[which].recorder
        for path, request in (
            (recorder.socket, format_request(f"198.51.100.{number}", b"ann", b"imap")),
            (recorder.postlogin[0].path, dovecot_request(f"203.0.113.{number}", "bob")),
        ):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(request)
            async with asyncio.timeout(PATIENCE_S):
                assert await reader.read() != b""
            writer.close()
            await writer.wait_closed()

    async def use_everything(self, which, service):
        """Have all that the recorder does done once: commits, the spool, its drain, its status."""
        await self.log_in(which, 1)
        with self.locked(which):
            await self.log_in(which, 2)
        await until(lambda: service.status()["database"]["state"] == "up")
        await until(lambda: service.status()["spool"]["logins"] == 0)
        await self.log_in(which, 3)
        await service.control("status", [])
        await service.control("renew", ["198.51.100.1"])
        await service.control("revoke", ["198.51.100.1"])


async def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, condition
        await asyncio.sleep(0.05)


async def left_behind(running):
    """Return what the recorder still has of its old settings some time after a reload."""
    old, new = running.settings
    in_force = [old]
    listeners = Listeners({})
    listeners.add(old.recorder)
    service = Service(lambda: in_force[0], old, listeners, 100)
    serving = asyncio.create_task(service.serve())
    try:
        await until(lambda: serving.done() or service._handlers)
        await running.use_everything(OLD, service)
        in_force[0] = new
        service.reloader.ask()
        await until(lambda: service._settings is new)
        await running.use_everything(NEW, service)
        traces = Traces(old, new, {f"recorder.{name}" for name in _ONLY_AT_START})
        here = [running, running.settings, traces, serving, *gc.get_referents(traces)]
        deadline = time.monotonic() + 15
        # What was under way before the reload may still end.
        while found := search(roots(service), traces.of, here):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        return found
    finally:
        service._supervisor.stop()
        await serving
        listeners.close()


@pytest.fixture
def running():
    return Running(public_directory())


def test_every_key_is_another_one_after_the_reload(running):
    """A new key of the configuration needs two values here, or a reason why it has none."""
    old, new = map(dict, map(leaves, running.settings))
    same = {key for key, value in old.items() if value == new[key]}
    only_at_start = {f"recorder.{name}" for name in _ONLY_AT_START}
    assert same <= INDISTINCT | only_at_start | {"watch.pattern"}


@pytest.mark.parametrize("same_sockets", [False, True])
def test_nothing_goes_on_with_settings_from_before_a_reload(same_sockets):
    running = Running(public_directory(), same_sockets=same_sockets)
    assert asyncio.run(left_behind(running)) == set()


@pytest.mark.parametrize("hide", [partial, lambda f, x: lambda: f(x), lambda f, x: {"a": [(f, x)]}])
def test_what_is_looked_for_is_found_wherever_it_hides(running, hide):
    old, new = running.settings
    traces = Traces(old, new, set())
    room = [types.SimpleNamespace(x=str(n)) for n in range(2000)]
    for value in (old, old.recorder, old.grace, old.grace * 1000, old.database.url, old.refresh):
        assert search([*room, hide(print, value)], traces.of, []), value
    for value in (new, new.recorder, new.grace, new.database.url, new.refresh):
        assert not search([*room, hide(print, value)], traces.of, []), value
