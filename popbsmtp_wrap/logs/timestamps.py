"""When a line was written, as far as it says so."""

import re
import time
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

_MONTHS: Final = dict(
    zip(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
        range(1, 13),
        strict=True,
    )
)
_DAY_S: Final = 86400
_HMS = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):00"
# All forms have them once, behind hour and minute.
_SECONDS = re.compile(r"(?<=[0-9]{2}:[0-9]{2}:)([0-9]{2})(?:[.,]([0-9]{1,9}))?", re.ASCII)
_MONTH_DAY = r"(?P<name>[A-Z][a-z]{2}) {1,2}(?P<day>[0-9]{1,2}) "
_FORMS: Final = tuple(
    re.compile(form, re.ASCII)
    for form in (
        # RFC 3164 section 4.1.2; AppleMailServer writes the year before the hour.
        rf"{_MONTH_DAY}(?:(?P<year>[0-9]{{4}}) )?{_HMS}",
        # RFC 3339; Dovecot's log_timestamp and journalctl -o short-iso.
        (
            r"(?:[A-Z][a-z]{2} )?(?P<year>[0-9]{4})[-/](?P<month>[0-9]{2})[-/](?P<day>[0-9]{2})[T ]"
            rf"{_HMS}(?P<zone>Z| UTC| GMT| ?[+-][0-9]{{2}}:?[0-9]{{2}})?"
        ),
        # svlogd -tt: UTC.
        (
            r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})(?P<zone>_)"
            rf"{_HMS}"
        ),
        # journalctl -o short-full.
        (
            r"[A-Z][a-z]{2} (?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2}) "
            rf"{_HMS} (?P<zone>[A-Z]{{2,5}}|[+-][0-9]{{2}}(?:[0-9]{{2}})?)"
        ),
        # ctime(3), as Qpopper's own log has it.
        rf"[A-Z][a-z]{{2}},? {_MONTH_DAY}{_HMS} (?P<year>[0-9]{{4}})",
    )
)
# tai64nlocal(8): seconds since 1970 in TAI, which was 10 seconds ahead then; daemontools adds no
# leap seconds.
_TAI64N = re.compile(r"@4([0-9a-f]{15})([0-9a-f]{8})")
_TAI_OFFSET_S: Final = 10
_SUMMER_2000: Final = 962_409_600  # half a year before and after it, 29 February among them
_LEAP_YEAR_S: Final = 366 * _DAY_S
_FAR: Final = 32_503_680_000  # the year 3000
_UNIX = re.compile(r"[0-9]{10}\.[0-9]{3,9}")


def moment(stamp: str, now: float) -> float | None:
    """Return the Unix seconds of a line's *stamp*, None when it is no time.

    A stamp without a zone is local time. One without a year is of the year that brings it nearest
    to *now*, and not more than a day ahead. An hour that a clock shows twice (the end of summer
    time) means the first: nobody may relay longer. An hour that it skips means what mktime(3) does.
    """
    if _UNIX.fullmatch(stamp):
        return float(stamp)
    if found := _TAI64N.fullmatch(stamp):
        return int(found[1], 16) - _TAI_OFFSET_S + int(found[2], 16) / 1e9
    if not (found := _SECONDS.search(stamp)):
        return None
    # A leap second is the last one once more. No clock is put forward or back within a minute.
    beyond = min(int(found[1]), 59) + float(f"0.{found[2] or 0}")
    minute = f"{stamp[: found.start()]}00{stamp[found.end() :]}"
    latest = now + _DAY_S - beyond
    for seconds in _moments(minute, time.localtime(now).tm_year, time.tzname, time.timezone):
        if seconds <= latest:
            return seconds + beyond
    return None


def apart_s(earlier: str, later: str) -> float | None:
    """Return the seconds between two stamps of one log, None when one is no time.

    Without a time on both of them it is 0. Never negative: over the end of a year the stamps begin
    again.
    """
    if not earlier and not later:
        return 0
    first, second = moment(earlier, _SUMMER_2000), moment(later, _SUMMER_2000)
    if first is None or second is None:
        # Stamps with a year are in a future that moment() does not trust.
        first, second = moment(earlier, _FAR), moment(later, _FAR)
    return None if first is None or second is None else (second - first) % _LEAP_YEAR_S


@lru_cache(maxsize=1000)  # the minutes of some logs
def _moments(stamp: str, year: int, *_zone: object) -> tuple[float, ...]:
    """Return what *stamp*, of a whole minute, may mean, latest first, when now is in *year*.

    The local zone is a part of the key: tzset(3) makes earlier results wrong.
    """
    for form in _FORMS:
        if found := form.fullmatch(stamp):
            break
    else:
        return ()
    fields = found.groupdict()
    month = _MONTHS.get(fields["name"], 0) if fields.get("name") else int(fields["month"])
    # A 29 February without a year may be eight years back (1896 to 1904, 2096 to 2104).
    known = fields.get("year")
    years = (int(known),) if known else range(year + 1, year - 9, -1)
    moments = []
    for candidate in years:
        try:
            then = datetime(  # local time where no zone follows
                candidate,
                month,
                int(fields["day"]),
                int(fields["hour"]),
                int(fields["minute"]),
                tzinfo=_zone_of(fields.get("zone")),
            )
            moments.append(then.timestamp())
        except (ValueError, OverflowError):
            continue
    return tuple(moments)


def _zone_of(text: str | None) -> timezone | None:
    if not text:
        return None
    if text.strip() in {"Z", "UTC", "GMT", "_"}:
        return UTC
    if text.isalpha():
        if text in time.tzname:
            return None
        raise ValueError(f"{text} is the name of another zone than ours")
    sign = -1 if "-" in text else 1
    digits = text.strip().lstrip("+-").replace(":", "")
    return timezone(sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0)))
