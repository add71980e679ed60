"""Whether anything is going to run `popbsmtp expire`."""

import glob
from collections.abc import Iterator, Sequence

from popbsmtp_wrap.doctor.finding import Finding

PLACES = (
    "/etc/crontab",
    "/etc/cron.d/*",
    "/etc/cron.*/*",
    "/var/spool/cron/crontabs/*",
    "/etc/systemd/system/*.service",
    "/lib/systemd/system/*.service",
)


def check_schedule(places: Sequence[str] = PLACES) -> Iterator[Finding]:
    """Yield the finding whether cron or a timer expires old rows."""
    for path in (path for place in places for path in sorted(glob.glob(place))):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = [line for line in file if not line.lstrip().startswith("#")]
        except OSError:
            continue
        if any("popbsmtp" in line and "expire" in line for line in lines):
            yield Finding("ok", f"{path} runs popbsmtp expire")
            return
    yield Finding(
        "warn",
        "nothing runs popbsmtp expire: the table grows, but nobody relays longer",
        "run: install -m 644 cron/popbsmtp /etc/cron.d/popbsmtp",
    )
