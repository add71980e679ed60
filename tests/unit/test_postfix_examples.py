"""examples/postfix/ is what the toolkit generates; run as a program, this writes it again."""

import difflib
import itertools
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from popbsmtp_wrap import config
from popbsmtp_wrap.postfix import maps

FOLDER = Path(__file__).parents[2] / "examples" / "postfix"
KINDS = ["pgsql", "mysql", "sqlite"]
# Folder: the Postfix version that it is for. The newest has none.
VERSIONS = {"": (3, 7), "older/3.0-3.6/": (3, 0), "older/2.10/": (2, 11), "older/2.9/": (2, 9)}
AGAIN = "run: .venv/bin/python tests/unit/test_postfix_examples.py"


def settings_of(kind, password_file):
    """Return the example's configuration with a password in place of the one it names."""
    settings = config.load(str(FOLDER / f"{kind}.toml"))
    if not settings.postfix.password_file:
        return settings
    return replace(settings, postfix=replace(settings.postfix, password_file=password_file))


def generated():
    """Return the text of each example by its name."""
    texts = {}
    with tempfile.NamedTemporaryFile("w") as password:
        password.write("CHANGE-ME\n")
        password.flush()
        for kind, (folder, version) in itertools.product(KINDS, VERSIONS.items()):
            settings = settings_of(kind, password.name)
            texts[f"{folder}{kind}-main.cf"] = maps.main_cf(settings, "/etc/postfix", version)
            for file in maps.map_files(settings, "/etc/postfix", version):
                # What has not changed since is not repeated.
                if texts.get(file.name) != file.text:
                    texts[f"{folder}{file.name}"] = file.text
    return texts


@pytest.mark.parametrize("name", sorted(generated()))
def test_an_example_is_what_the_toolkit_generates(name):
    found = (FOLDER / name).read_text() if (FOLDER / name).exists() else ""
    difference = difflib.unified_diff(
        found.splitlines(), generated()[name].splitlines(), "found", "generated", lineterm=""
    )
    assert found == generated()[name], "\n".join([AGAIN, *difference])


def test_there_are_no_other_examples():
    sources = {"README.md", *(f"{kind}.toml" for kind in KINDS)}
    found = {str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*") if p.is_file()}
    assert found == sources | set(generated()), AGAIN


def test_the_examples_hold_documentation_values_only():
    for path in FOLDER.rglob("*.cf"):
        text = path.read_text()
        assert "password" not in text or "CHANGE-ME" in text, path
        assert "db.example.org" in text or "hosts" not in text, path


if __name__ == "__main__":
    for name, text in generated().items():
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_text(text)
