"""popbsmtp flush: drain the spool without a recorder."""

import os
import time
from dataclasses import dataclass, field

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.errors import SpoolBusyError
from popbsmtp_wrap.spool.directory import lock
from popbsmtp_wrap.spool.draining import Drain
from popbsmtp_wrap.store.batch import LARGEST_BATCH, BatchWriter, Seen
from popbsmtp_wrap.store.engine import Store


@dataclass
class Flushed:
    """How many logins are in the table, and what else there is to say."""

    committed: int = 0
    problems: list[str] = field(default_factory=list)


def flush(store: Store, settings: Settings) -> Flushed:
    """Write what waits in the spool of *settings* into *store*.

    Where a recorder has the spool, or where there is none, there is nothing to do. Raise SpoolError
    for one that is not usable, StoreUnavailableError, RefusedError or SchemaError when the
    database takes nothing; what is not committed stays.
    """
    done = Flushed()
    recorder = settings.recorder
    if not os.path.exists(recorder.spool):
        return done
    try:
        spool = lock(recorder.spool, recorder.spool_size)
    except SpoolBusyError:
        return done
    writer = BatchWriter(store)
    dropped = {"expired": 0, "untrusted": 0, "bad": 0}
    with spool:
        drain = Drain(spool, settings.grace, LARGEST_BATCH)
        while (chunk := drain.chunk()) is not None:
            now = time.monotonic()
            if chunk.logins:
                outcome = writer.write([Seen(login, now) for login in chunk.logins])
                done.problems += [reason for _, reason in outcome.refused]
            done.problems += [*chunk.errors, *drain.commit()]
            done.committed += len(chunk.logins)
            for kind in dropped:
                dropped[kind] += getattr(chunk, kind)
    done.problems += [_DROPPED[kind].format(count) for kind, count in dropped.items() if count]
    return done


_DROPPED = {
    "expired": "{} logins were older than grace and are dropped",
    "untrusted": "{} logins lie in the future by the clock and are dropped",
    "bad": "{} records were damaged and are kept in *.bad files of the spool",
}
