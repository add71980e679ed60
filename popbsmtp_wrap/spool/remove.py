"""Take logins out of the spool that may not come back: an administrator has revoked them."""

import os
from collections.abc import Collection, Iterator

from popbsmtp_wrap.spool.directory import Spool, trouble
from popbsmtp_wrap.spool.files import copy, create, fsync_directory, lines, open_segment
from popbsmtp_wrap.spool.record import parse_record


def remove(spool: Spool, addresses: Collection[str] | None) -> int:
    """Take the logins of canonical *addresses* (None: of all) out of the closed segments.

    Return how many. Call it between the chunks of a drain and after Appender.close_segment(): what
    an open segment or an uncommitted chunk holds would come back. Raise SpoolError when a segment
    cannot be read or replaced; the others are done all the same.
    """
    taken, failed = 0, None
    try:
        for name in spool.closed_segments():
            try:
                taken += _rewrite(spool, name, addresses)
            except FileNotFoundError:
                continue
            except OSError as error:
                failed = error
        fsync_directory(spool.path)
    except OSError as error:
        failed = error
    if failed:
        raise trouble(spool.path, failed)
    return taken


def _rewrite(spool: Spool, name: str, addresses: Collection[str] | None) -> int:
    """Replace a segment by one without those logins; return how many they were."""
    full = os.path.join(spool.path, name)
    with os.fdopen(open_segment(spool.path, name), "rb") as source:
        taken, kept = _divide(lines(source, 0), addresses)
        if taken and not kept:
            os.unlink(full)
        elif taken:
            temporary, target = create(spool.path, ".tmp")
            try:
                try:
                    copy(source, kept, target)
                    os.fsync(target)
                finally:
                    os.close(target)
                os.rename(os.path.join(spool.path, temporary), full)
            except BaseException:
                os.unlink(os.path.join(spool.path, temporary))
                raise
    return taken


def _divide(
    records: Iterator[tuple[bytes, int]], addresses: Collection[str] | None
) -> tuple[int, list[tuple[int, int]]]:
    """Return how many of *records* are of *addresses*, and where the others stand."""
    taken, start = 0, 0
    kept: list[tuple[int, int]] = []
    for line, end in records:
        if _is_of(line, addresses):
            taken += 1
        elif kept and kept[-1][1] == start:
            kept[-1] = (kept[-1][0], end)
        else:
            kept.append((start, end))
        start = end
    return taken, kept


def _is_of(line: bytes, addresses: Collection[str] | None) -> bool:
    try:
        login, _ = parse_record(line)
    except ValueError:
        return False  # for the drain to set aside
    return addresses is None or login.address in addresses
