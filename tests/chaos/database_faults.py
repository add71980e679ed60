"""What happens to the database, its table and its files."""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable  # noqa: TC003 - for a local name
from contextlib import closing
from functools import partial
from typing import Any, Final

from tests.chaos import clients
from tests.chaos.databases import Sqlite
from tests.chaos.fault import Fault, fault
from tests.chaos.model import Window
from tests.chaos.recorder_faults import together
from tests.chaos.statements import REFUSED_ADDRESS, REFUSED_USER, SLOW

_SERVED: Final = ("postgresql", "mariadb")
# A row that nobody locks has to be in the table by then.
_COMMITTED_S: Final = 12.0


@fault("kill_database", 2, _SERVED)
class KillDatabase(Fault):
    def apply(self) -> None:
        self.site.database.kill_or_hold()

    def undo(self) -> None:
        self.site.database.start_or_release()


@fault("restart_database", 1, _SERVED)
class RestartDatabase(Fault):
    def apply(self) -> None:
        self.site.database.stop()

    def undo(self) -> None:
        self.site.database.start_or_release()


@fault("hang_database", 2)
class HangDatabase(Fault):
    """It accepts connections and answers nobody."""

    def apply(self) -> None:
        self.site.hang_database()

    def undo(self) -> None:
        self.site.free_database()


@fault("kill_sessions", 1, _SERVED)
class KillSessions(Fault):
    def apply(self) -> None:
        for _ in range(3):
            with contextlib.suppress(Exception):
                self.site.database.kill_sessions()
            time.sleep(self.rng.uniform(0.05, 0.4))


class _Lock(Fault):
    _session: Any = None

    def undo(self) -> None:
        if self._session is not None:
            with contextlib.suppress(Exception):
                self._session.rollback()
            with contextlib.suppress(Exception):
                self._session.close()
            self._session = None


@fault("lock_table", 1, _SERVED)
class LockTable(_Lock):
    def apply(self) -> None:
        with contextlib.suppress(Exception):  # a second fault may have the database down
            self._session = self.site.database.session()
            self.site.database.lock_table(self._session)


@fault("lock_row", 2, _SERVED)
class LockRow(_Lock):
    """An open transaction holds one row: only that address may wait."""

    def apply(self) -> None:
        site, locked = self.site, self.site.fresh_address()
        try:
            clients.line(site, locked, site.user("locked"))
            if not site.in_table(locked, 10):
                return
            self._session = site.database.session()
            site.database.lock_row(self._session, locked)
        except Exception as error:  # noqa: BLE001 - a second fault may have the database down
            site.note(f"lock_row: {error!r}")
            return
        time.sleep(site.history.refresh_s + 0.1)
        together([lambda: clients.line(site, locked, site.user("locked"))])
        time.sleep(0.3)
        probe, began = site.fresh_address(), time.time()
        outcome = clients.line(site, probe, site.user("probe"))
        if not self.alone or outcome != "ok":
            return
        while not site.in_table(probe, 0.2):
            bound_s = _COMMITTED_S + site.lag.between(began, time.time())
            if time.time() - began > bound_s:
                site.trouble(
                    f"expected {probe} in the table while the row of {locked} alone is locked,"
                    f" found it missing after {time.time() - began:.0f} s"
                )
                return


@fault("refused_row", 2)
class RefusedRow(Fault):
    """Logins that a constraint or a trigger refuses, beside and before good ones."""

    def apply(self) -> None:
        site = self.site
        for _ in range(3):
            address = site.fresh_address()
            bad, good = site.user(REFUSED_USER), site.user("good")
            calls = [
                lambda a=address, u=bad: clients.line(site, a, u, counts=False),
                lambda a=address, u=good: clients.line(site, a, u),
            ]
            if self.rng.random() < 0.5:
                calls.reverse()
            threads = together(calls)
            for thread in threads:
                thread.join()
        long = f"{REFUSED_ADDRESS}1111:2222:3333:4444:{self.rng.randrange(0x1000, 0xFFFF):x}"
        self._refused(long, site.user("long"))
        same = site.fresh_address()
        self._refused(same, site.user(REFUSED_USER))
        clients.line(site, same, site.user("good"))

    def _refused(self, address: str, user: str) -> None:
        began = time.time()
        outcome = clients.line(self.site, address, user, counts=False)
        status = self.site.status()
        # A database that is down takes nobody's login: this one waits in the spool meanwhile.
        up = status is not None and status["database"]["state"] == "up"  # type: ignore[index]
        if self.alone and up and outcome == "ok" and self.site.log_is_quiet(began):
            self.site.trouble(f"expected NO for {user} from {address}, found OK")


@fault("kill_between_rows")
class KillBetweenRows(Fault):
    """The database goes away in the middle of a batch that is written row by row."""

    def apply(self) -> None:
        site, database = self.site, self.site.database
        with contextlib.suppress(Exception):
            database.sql(*SLOW[database.kind][0])
        database.kill_or_hold()
        clients.line(site, site.fresh_address(), site.user("first"))
        calls: list[Callable[[], object]] = []
        for number in range(40):
            # Every piece of the spool gets one that is refused.
            refused = number % 4 == 3
            user = site.user(REFUSED_USER if refused else "row")
            address = site.fresh_address("2001:db8:3::")
            calls.append(partial(clients.line, site, address, user, counts=not refused))
        for thread in together(calls):
            thread.join()
        database.start_or_release()
        seen = self._first_rows()
        database.kill_or_hold()
        site.note(f"kill_between_rows: {seen} of 30 rows were there")
        time.sleep(12)

    def _first_rows(self) -> int:
        """Return how many rows there are when there are a few, or after a while."""
        query = "SELECT count(*) FROM popbsmtp WHERE address LIKE '2001:db8:3::%'"
        deadline = time.monotonic() + 15
        with contextlib.suppress(Exception), closing(self.site.database.session()) as session:
            cursor = session.cursor()
            while time.monotonic() < deadline:
                cursor.execute(query)
                (found,) = cursor.fetchone()
                session.commit()
                if found > 2:
                    return int(found)
                time.sleep(0.002)
        return 0

    def undo(self) -> None:
        database = self.site.database
        database.start_or_release()
        with contextlib.suppress(Exception):
            database.sql(*SLOW[database.kind][1])


@fault("truncate")
class Truncate(Fault):
    """The rows are gone, as after a fail-over; who logs in then has to be written again."""

    def apply(self) -> None:
        site = self.site
        addresses = [site.fresh_address() for _ in range(3)]
        for address in addresses:
            clients.line(site, address, site.user("before"))
        began = time.time()
        try:
            if not site.in_table(addresses[-1], 5):
                return
            site.database.truncate()
        except Exception as error:  # noqa: BLE001 - a second fault may have the database down
            site.note(f"truncate: {error!r}")
            return
        finally:
            site.history.losses.append(Window(began, time.time()))
        for address in addresses:
            clients.line(site, address, site.user("after"))


@fault("replace_file", 2, ("sqlite",))
class ReplaceFile(Fault):
    """rm and init, as our own message advises."""

    def apply(self) -> None:
        site = self.site
        assert isinstance(site.database, Sqlite)
        began = time.time()
        for path in site.database.files():
            path.unlink(missing_ok=True)
        site.toolkit("init")
        site.refuse()
        site.history.losses.append(Window(began, time.time()))
        for _ in range(5):
            clients.line(site, site.fresh_address(), site.user("replaced"))


@fault("move_file", 1, ("sqlite",))
class MoveFile(Fault):
    """mv away, and back."""

    def apply(self) -> None:
        site = self.site
        assert isinstance(site.database, Sqlite)
        self._began = time.time()
        self._aside = site.database.path.parent / "aside"
        self._aside.mkdir(exist_ok=True)
        for path in site.database.files():
            shutil.move(path, self._aside / path.name)
        clients.line(site, site.fresh_address(), site.user("moved"))

    def undo(self) -> None:
        database = self.site.database
        assert isinstance(database, Sqlite)
        # Another fault may have made a new one, which this takes away.
        is_there = database.path.exists()
        for path in sorted(self._aside.iterdir(), reverse=True):
            shutil.move(path, database.path.parent / path.name)
        if is_there:
            self.site.history.losses.append(Window(self._began, time.time()))


class _DiskFull(Fault):
    def fill(self, folder: Any) -> None:
        self._filler = folder / "filler.tmp"
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"x" * size):
                        pass

    def undo(self) -> None:
        self._filler.unlink(missing_ok=True)


@fault("spool_full")
class SpoolFull(_DiskFull):
    """No room on the spool's disk; the database is slow for half of the time."""

    def apply(self) -> None:
        self.site.spool_hurt += 1
        self.fill(self.site.spool)

    def undo(self) -> None:
        super().undo()
        threading.Timer(2, self._heal).start()

    def _heal(self) -> None:
        self.site.spool_hurt -= 1


@fault("store_full", 1, ("sqlite",))
class StoreFull(_DiskFull):
    def apply(self) -> None:
        assert isinstance(self.site.database, Sqlite)
        self.fill(self.site.database.path.parent)
