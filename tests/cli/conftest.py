"""A toolkit with an SQLite store of its own."""

import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from popbsmtp_wrap.cli.main import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


class Toolkit:
    def __init__(self, folder: Path, monkeypatch, capsys):
        self.config = folder / "popbsmtp.toml"
        self.database = folder / "popbsmtp.db"
        self.config.write_text(
            f'[database]\nurl = "sqlite:///{self.database}"\n'
            "[ignore]\npostfix_mynetworks = false\nown_addresses = false\n"
        )
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Done:
        argv = ["popbsmtp", "-c", str(self.config), *arguments]
        self._monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ending:
            main()
        printed = self._capsys.readouterr()
        return Done(ending.value.code or 0, printed.out, printed.err)

    def age(self, address: str, seconds: int) -> None:
        """Set a row back, as time would."""
        with sqlite3.connect(self.database) as connection:
            connection.execute(
                "UPDATE popbsmtp SET last_seen = last_seen - ? WHERE address = ?",
                (seconds, address),
            )


@pytest.fixture
def toolkit(tmp_path, monkeypatch, capsys):
    made = Toolkit(tmp_path, monkeypatch, capsys)
    assert made("init").status == 0
    return made
