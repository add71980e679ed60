"""Every file of tests/bad_configs: what popbsmtp says about it, word for word.

NAME.toml is a configuration, NAME.arguments the arguments of a call with a good configuration.
NAME.expected holds the exit status and the message in the last line on stderr.
"""

import shlex
import sys
from pathlib import Path

import pytest

from popbsmtp_wrap.cli.main import main

FOLDER = Path(__file__).parent.parent / "bad_configs"
CASES = sorted(path for path in FOLDER.iterdir() if path.suffix in (".toml", ".arguments"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_bad_input_is_refused_with_its_message(case, tmp_path, capsys, monkeypatch):
    good = tmp_path / "good.toml"
    good.write_text(f'[database]\nurl = "sqlite:///{tmp_path}/popbsmtp.db"\n')
    if case.suffix == ".toml":
        arguments = ["-c", str(case), "check", "198.51.100.7"]
    else:
        arguments = ["-c", str(good), *shlex.split(case.read_text(), posix=False)]
    monkeypatch.setattr(sys, "argv", ["popbsmtp", *arguments])

    with pytest.raises(SystemExit) as ending:
        main()

    printed = capsys.readouterr()
    said = printed.err.strip().splitlines()[-1].replace(str(case), "{path}")
    status, expected = case.with_suffix(".expected").read_text().splitlines()
    assert ending.value.code == int(status)
    assert expected in said
    assert printed.out == ""
    assert "Traceback" not in printed.err


def test_no_expectation_is_left_without_its_case():
    assert {path.stem for path in FOLDER.glob("*.expected")} == {path.stem for path in CASES}
