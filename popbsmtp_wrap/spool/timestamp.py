"""When a login was, so that its age can be told later: after a clock step or a reboot as well."""

import time
from functools import cache
from typing import NamedTuple, Self

# How far the wall clock may have been set back since a login that is still believed.
MOST_AHEAD_S = 60
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Stamp(NamedTuple):
    """A moment: nanoseconds of CLOCK_BOOTTIME and of the wall clock.

    boot_id names the boot that boot_ns counts from (random(4)); "" where /proc does not say.
    """

    boot_id: str
    boot_ns: int
    wall_ns: int

    @classmethod
    def now(cls) -> Self:
        """Return this moment."""
        return cls(_boot_id(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns())


@cache
def _boot_id() -> str:
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.readline().strip()
    except (OSError, ValueError):
        return ""


def age_s(stamp: Stamp, now: Stamp) -> float | None:
    """Return the seconds from *stamp* to *now*, None when no clock can be trusted.

    Within one boot a step of the wall clock changes nothing. A stamp of another boot may be up to
    MOST_AHEAD_S in the future and is then 0 seconds old; what is further ahead would let somebody
    relay for longer than he may.
    """
    if stamp.boot_id and stamp.boot_id == now.boot_id:
        age_ns = now.boot_ns - stamp.boot_ns
    else:
        age_ns = now.wall_ns - stamp.wall_ns
    if age_ns < -MOST_AHEAD_S * 1_000_000_000:
        return None
    return max(0, age_ns) / 1_000_000_000
