"""A table of old logins, as cron finds it that has not run for days."""

from bench.databases import Place

ROWS = 500_000
# All older than any grace: a second between two, or all of one second, as after an import.
SHAPES = ("spread", "one second")
_AGE_S = 86400

_INSERT = """\
INSERT INTO popbsmtp (address, last_seen, first_seen, username, service)
SELECT {address}, t, t, 'alice', 'imap'
FROM {rows}"""
# n * 7919 modulo 256^3, as an address in 10.0.0.0/8: no two alike, and not in last_seen's order.
_ADDRESS = (
    "'10.' || (n * 7919 / 65536 % 256) || '.' || (n * 7919 / 256 % 256) || '.' || (n * 7919 % 256)"
)
_FILL = {
    "postgresql": _INSERT.format(
        address=_ADDRESS,
        rows=f"(SELECT n, now() - ({{age}}) * interval '1 second' AS t"
        f" FROM generate_series(1::bigint, {ROWS}) AS n) AS old",
    ),
    "mariadb": _INSERT.format(
        address="concat_ws('.', 10, n * 7919 DIV 65536 % 256, n * 7919 DIV 256 % 256,"
        " n * 7919 % 256)",
        rows="(SELECT n, timestampadd(SECOND, -({age}), now()) AS t"
        f" FROM (SELECT seq AS n FROM seq_1_to_{ROWS}) AS numbers) AS old",
    ),
    "sqlite": _INSERT.format(
        address=_ADDRESS,
        rows="(WITH RECURSIVE numbers(n) AS"
        f" (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {ROWS})"
        " SELECT n, CAST(strftime('%s', 'now') AS INTEGER) - ({age}) AS t FROM numbers)",
    ),
}
_ANALYZE = {
    "postgresql": "ANALYZE popbsmtp",
    "mariadb": "ANALYZE TABLE popbsmtp",
    "sqlite": "ANALYZE",
}


def fill(place: Place, shape: str) -> None:
    """Put ROWS old logins of *shape* into the empty table, and have the server look at them.

    Raise RuntimeError when there are not as many afterwards.
    """
    age = f"{_AGE_S} + n" if shape == "spread" else f"{_AGE_S}"
    place.sql(_FILL[place.kind].replace("{age}", age), _ANALYZE[place.kind])
    if place.count() != ROWS:
        raise RuntimeError(f"{place.kind}: {place.count()} rows instead of {ROWS}")
