"""SQL that makes a table refuse some rows, or slow."""

from typing import Final

# Names that the table refuses, and the beginning of addresses that it refuses or that do not fit.
REFUSED_USER: Final = "refused"
REFUSED_ADDRESS: Final = "2001:db8:ffff:"
_REFUSED: Final = f"NEW.username LIKE '{REFUSED_USER}%' OR NEW.address LIKE '{REFUSED_ADDRESS}%'"
_OF_POSTGRESQL: Final = f"""\
CREATE FUNCTION chaos_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF {_REFUSED} THEN RAISE EXCEPTION 'not this one'; END IF;
    RETURN NEW;
END $$"""
_OF_MARIADB: Final = f"""\
CREATE TRIGGER chaos_refuse BEFORE INSERT ON popbsmtp FOR EACH ROW
BEGIN
    IF {_REFUSED} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'; END IF;
END"""
_OF_SQLITE: Final = f"""\
CREATE TRIGGER chaos_refuse BEFORE INSERT ON popbsmtp WHEN {_REFUSED}
BEGIN SELECT RAISE(ABORT, 'not this one'); END"""
_CHECK: Final = f"CHECK (username NOT LIKE '{REFUSED_USER}%')"

# The ways of each kind of database; a run takes one of them.
REFUSALS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "sqlite": ((_OF_SQLITE,),),
    "postgresql": (
        (
            f"ALTER TABLE popbsmtp ADD CONSTRAINT chaos_user {_CHECK}",
            "ALTER TABLE popbsmtp ALTER address TYPE varchar(30)",
        ),
        (
            _OF_POSTGRESQL,
            """CREATE TRIGGER chaos_refuse BEFORE INSERT ON popbsmtp
            FOR EACH ROW EXECUTE FUNCTION chaos_refuse()""",
        ),
    ),
    "mariadb": (
        (_OF_MARIADB,),
        (
            f"ALTER TABLE popbsmtp ADD {_CHECK}",
            """ALTER TABLE popbsmtp MODIFY address
            VARCHAR(30) CHARACTER SET ascii COLLATE ascii_bin NOT NULL""",
        ),
    ),
}

# Makes each row take about 10 ms, so that a batch that is written row by row can be hit; then the
# statements that undo it.
SLOW: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "sqlite": (
        (
            "CREATE TABLE chaos_rows (n INTEGER)",
            """INSERT INTO chaos_rows WITH RECURSIVE c(n) AS
            (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 400) SELECT n FROM c""",
            # More than a hundred thousand pairs.
            """CREATE TRIGGER chaos_slow BEFORE INSERT ON popbsmtp
            BEGIN SELECT sum(a.n * b.n) FROM chaos_rows a, chaos_rows b; END""",
        ),
        ("DROP TRIGGER IF EXISTS chaos_slow", "DROP TABLE IF EXISTS chaos_rows"),
    ),
    "postgresql": (
        (
            """CREATE FUNCTION chaos_slow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END $$""",
            """CREATE TRIGGER chaos_slow BEFORE INSERT ON popbsmtp
            FOR EACH ROW EXECUTE FUNCTION chaos_slow()""",
        ),
        ("DROP TRIGGER IF EXISTS chaos_slow ON popbsmtp", "DROP FUNCTION IF EXISTS chaos_slow"),
    ),
    "mariadb": (
        (
            """CREATE TRIGGER chaos_slow BEFORE INSERT ON popbsmtp
            FOR EACH ROW BEGIN DO SLEEP(0.01); END""",
        ),
        ("DROP TRIGGER IF EXISTS chaos_slow",),
    ),
}
