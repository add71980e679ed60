"""What init and doctor say about a table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """What a table lacks, and the SQL that changes it (empty: change the configuration).

    With *harmless* the table serves all the same.
    """

    what: str
    sql: str = ""
    harmless: bool = False
