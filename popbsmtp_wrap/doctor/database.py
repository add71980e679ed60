"""The database: reachable, its table right, its accounts able, its clock near."""

import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

from popbsmtp_wrap.config import Database, Settings
from popbsmtp_wrap.config.passwords import masked
from popbsmtp_wrap.doctor.finding import Finding
from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.postfix.account import postfix_account
from popbsmtp_wrap.store import diagnosis, setup
from popbsmtp_wrap.store.engine import Store, open_store, ping

# Nothing depends on this machine's clock, but logs and lists are read beside it.
_NEAR_S = 5


def check_database(settings: Settings) -> Iterator[Finding]:
    """Yield findings about the database as the toolkit and the wrapper see it."""
    url = masked(settings.database.url)
    try:
        store = open_store(settings.database)
        ping(store)
    except PopbsmtpError as error:
        yield Finding("FAIL", f"database: {error}")
        return
    yield Finding("ok", f"database {url} answers")
    try:
        differences = setup.differences(store)
        for difference in differences:
            if difference.harmless:
                yield Finding("warn", difference.what)
            else:
                yield Finding(
                    "FAIL", difference.what, "popbsmtp init prints the SQL that changes it"
                )
        if any(not difference.harmless for difference in differences):
            return
        yield Finding("ok", f"table {store.table.name} is right")
        yield from _check_account(store)
        yield from _check_clock(store)
        yield from _check_reader(settings)
    except PopbsmtpError as error:
        yield Finding("FAIL", f"database: {error}")


def _check_account(store: Store) -> Iterator[Finding]:
    may = diagnosis.privileges(store)
    name = store.engine.url.username or "this user"
    for action in ("record", "look up"):
        if not may[action]:
            yield Finding("FAIL", f"{name} may not {action}", "grant it as in sql/*/roles.sql")
    if all(may.values()):
        yield Finding("ok", f"{name} may record, look up and delete")
    elif not may["delete"]:
        yield Finding(
            "warn", f"{name} may not delete", "give popbsmtp expire a configuration that may (-c)"
        )


def _check_clock(store: Store) -> Iterator[Finding]:
    ahead_s = diagnosis.clock_ahead_s(store)
    if abs(ahead_s) > _NEAR_S:
        where = "ahead of" if ahead_s > 0 else "behind"
        yield Finding(
            "warn",
            f"the database's clock is {abs(ahead_s):.0f} s {where} this machine's",
            "let NTP set both; the database's clock decides",
        )
    else:
        yield Finding("ok", "clocks agree")


def _check_reader(settings: Settings) -> Iterator[Finding]:
    """Log in as Postfix does, where it has an account of its own."""
    if not settings.postfix.user or settings.database.dialect == "sqlite":
        return
    may = diagnosis.privileges(open_store(_as_postfix(settings)))
    user = settings.postfix.user
    if not may["look up"]:
        yield Finding("FAIL", f"Postfix's account {user} may not look up", "see sql/*/roles.sql")
    elif may["record"] or may["delete"]:
        yield Finding("warn", f"Postfix's account {user} may write", "see sql/*/roles.sql")
    else:
        yield Finding("ok", f"Postfix's account {user} may look up and nothing else")


def _as_postfix(settings: Settings) -> Database:
    account = postfix_account(settings)
    driver, _, rest = settings.database.url.partition("://")
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    where = rest[authority.rfind("@") + 1 :]
    who = f"{quote(account.user, safe='')}:{quote(account.password, safe='')}"
    return replace(settings.database, url=f"{driver}://{who}@{where}", password_file="")
