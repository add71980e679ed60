"""Postfix: the map file, a canary through postmap, and the order of the restrictions."""

import os
import stat
from collections.abc import Iterator

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.doctor.finding import Finding
from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.postfix import map_files, maps
from popbsmtp_wrap.store import queries, removal, upsert
from popbsmtp_wrap.store.diagnosis import CANARY, privileges
from popbsmtp_wrap.store.engine import Store, open_store


def check_postfix(settings: Settings, directory: str) -> Iterator[Finding]:
    """Yield findings about the Postfix whose configuration is in *directory*."""
    version = map_files.version_of(directory)
    if version is None:
        yield Finding("warn", f"no Postfix with its configuration in {directory} here")
        return
    try:
        yield from _check_files(settings, directory, version)
        if os.path.exists(os.path.join(directory, maps.map_name(settings))):
            yield from _check_canary(settings, directory)
    except PopbsmtpError as error:
        yield Finding("FAIL", f"Postfix: {error}")
    yield from _check_restrictions(settings, directory, version)


def _check_files(settings: Settings, directory: str, version: maps.Version) -> Iterator[Finding]:
    write = f"run: popbsmtp postfix --output {directory}"
    for file in maps.map_files(settings, directory, version):
        path = os.path.join(directory, file.name)
        try:
            with open(path, encoding="utf-8") as found:
                text, mode = found.read(), os.fstat(found.fileno()).st_mode
        except FileNotFoundError:
            yield Finding("FAIL", f"{path} is missing", write)
            continue
        except OSError as error:
            yield Finding("warn", f"{path} cannot be read: {error.strerror}", "run this as root")
            continue
        if text != file.text:
            yield Finding("warn", f"{path} is not what the configuration gives", write)
        elif file.secret and mode & stat.S_IROTH:
            yield Finding("FAIL", f"{path} holds a password for everyone", f"run: chmod o= {path}")
        else:
            yield Finding("ok", f"{path} is right")


def _check_canary(settings: Settings, directory: str) -> Iterator[Finding]:
    """Let a row for nobody's address in, ask the map, and take the row out again."""
    store = open_store(settings.database)
    if not privileges(store)["delete"]:
        yield Finding(
            "warn",
            "the map is not asked: this account may not delete what that takes",
            "run doctor with -c and an account that may record and delete",
        )
        return
    if any(queries.rows(store, settings.grace, CANARY)):
        removal.delete(store, [CANARY])
    kind = maps.MAP_TYPES[settings.database.dialect]
    table = f"{kind}:{directory}/{maps.map_name(settings)}"
    before = map_files.ask(CANARY, table, directory)
    after = _with_canary(store, table, directory)
    if after and not before:
        yield Finding("ok", f"{table} answers: refused before a login, permitted after it")
    else:
        yield Finding(
            "FAIL",
            f"{table} says {_word(before)} before a login and {_word(after)} after it",
            "it asks another database or table; run: popbsmtp postfix --output DIR",
        )


def _with_canary(store: Store, table: str, directory: str) -> bool:
    upsert.record(store, Login(CANARY, "popbsmtp doctor"))
    try:
        return map_files.ask(CANARY, table, directory)
    finally:
        removal.delete(store, [CANARY])


def _word(permitted: object) -> str:
    return "permitted" if permitted else "refused"


def _check_restrictions(
    settings: Settings, directory: str, version: maps.Version
) -> Iterator[Finding]:
    """Find our map in the list that decides about relaying, and what stands before it."""
    name = "smtpd_relay_restrictions" if version >= (2, 10) else "smtpd_recipient_restrictions"
    advice = f"put the lines of popbsmtp postfix into {directory}/main.cf"
    words = map_files.parameter(name, directory).replace(",", " ").split()
    ours = [n for n, word in enumerate(words) if maps.map_name(settings) in word]
    rejects = [
        n
        for n, word in enumerate(words)
        if word in ("reject", "defer", "reject_unauth_destination", "defer_unauth_destination")
    ]
    if not ours:
        yield Finding("FAIL", f"{name} does not name {maps.map_name(settings)}", advice)
    elif not rejects:
        yield Finding("FAIL", f"{name} rejects nobody: an open relay", advice)
    elif rejects[0] < ours[0]:
        yield Finding("FAIL", f"{name} has {words[rejects[0]]} before the map", advice)
    elif version >= (2, 10) and "permit_auth_destination" not in words[: ours[0]]:
        yield Finding(
            "warn",
            f"{name} asks the map about mail for your own domains, too",
            "put permit_auth_destination before it",
        )
    elif version >= (3, 0) and not any("pipemap:" in word for word in words[: ours[0]]):
        yield Finding("warn", f"{name} asks the map for names and prefixes, too", advice)
    else:
        yield Finding("ok", f"{name} asks the map at the right place")
