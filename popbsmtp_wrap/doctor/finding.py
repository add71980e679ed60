"""What a check says."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """One line of the report; *advice* is what to type or change."""

    level: Level
    what: str
    advice: str = ""

    def __str__(self) -> str:
        """Return the line."""
        return f"{self.level:<4}  {self.what}" + (f"; {self.advice}" if self.advice else "")
