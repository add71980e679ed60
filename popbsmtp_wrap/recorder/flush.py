"""popbsmtp flush: drain the spool without a recorder."""

import os
import time
from dataclasses import dataclass, field
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.errors import PopbsmtpError, SpoolBusyError
from popbsmtp_wrap.recorder.chunk_attempts import ChunkAttempts
from popbsmtp_wrap.spool.append import put_all
from popbsmtp_wrap.spool.directory import Spool, lock
from popbsmtp_wrap.spool.reader import Chunk, SpoolReader
from popbsmtp_wrap.store.batch import LARGEST_BATCH, BatchWriter, NotWritten, Outcome
from popbsmtp_wrap.store.engine import Store

_DROPPED: Final = {
    "expired": "{} logins were older than grace and are dropped",
    "untrusted": "{} logins lie in the future by the clock and are dropped",
    "bad": "{} records were damaged and are kept in *.bad files of the spool",
}


@dataclass
class Flushed:
    """How many logins are in the table, and what else there is to say."""

    committed: int = 0
    problems: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_DROPPED, 0))


def flush(store: Store, settings: Settings) -> Flushed:
    """Write what waits in the spool of *settings* into *store*.

    The spool is locked while a chunk is read or forgotten, never while the database is asked: a
    recorder can start at any time, and drains what is left. Where one has the spool, or where there
    is no spool, there is nothing to do. Raise SpoolError for one that is not usable,
    StoreUnavailableError, RefusedError or SchemaError when the database takes nothing; what is not
    committed stays.
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
    with spool:
        try:
            _drain(spool, writer, settings, done)
        finally:
            writer.close()
    done.problems += [_DROPPED[kind].format(n) for kind, n in done.dropped.items() if n]
    return done


def _drain(spool: Spool, writer: BatchWriter, settings: Settings, done: Flushed) -> None:
    """Write chunk by chunk; return when nothing is left, or when another process has the lock."""
    drain = SpoolReader(spool, settings.grace, LARGEST_BATCH)
    doubt: PopbsmtpError | None = None
    # What _write() puts back into the spool comes after the last chunk, in the next run.
    while (chunk := drain.chunk()) is not None:
        if chunk.logins:
            spool.unlock()
            doubt = _write(writer, chunk, settings, done) or doubt
            if not spool.relock():
                break
        done.problems += [*chunk.errors, *drain.commit()]
        for kind in done.dropped:
            done.dropped[kind] += getattr(chunk, kind)
    if doubt is not None and not done.committed:
        raise doubt


def _write(
    writer: BatchWriter, chunk: Chunk, settings: Settings, done: Flushed
) -> PopbsmtpError | None:
    """Commit the logins of *chunk*; return why it is in doubt whether the database takes any.

    Raise PopbsmtpError unless each is written, refused, or at the end of the spool.
    """
    doubt: PopbsmtpError | None = None
    attempts = ChunkAttempts(chunk, time.monotonic())
    while batch := attempts.next_batch():
        try:
            outcome = writer.write(batch)
        except PopbsmtpError as error:
            if not error.in_doubt:
                raise
            doubt = error
            outcome = Outcome(locked=[NotWritten(seen, str(error)) for seen in batch])
        attempts.learn(outcome)
        for seen, reason in outcome.refused:
            done.problems.append(f"{seen.login.address} not recorded: {reason}")
        for seen, reason in outcome.locked:
            done.problems.append(f"{seen.login.address} stays in the spool: {reason}")
    if attempts.put_back:
        recorder = settings.recorder
        put_all(recorder.spool, recorder.spool_size, attempts.put_back)
    done.committed += attempts.written
    return doubt
