"""The pages in docs/ say what the code says."""

import re
import tomllib
from pathlib import Path

from popbsmtp_wrap import __version__, config
from popbsmtp_wrap.logs.recogniser import server_names
from tests.cli import commands_page, configuration_page

ROOT = Path(__file__).parent.parent.parent


def test_the_page_of_commands_is_their_help():
    assert commands_page.PAGE.read_text().split() == commands_page.page().split()


def test_the_page_of_the_configuration_shows_every_key_with_its_default():
    page = configuration_page.PAGE.read_text()
    assert page == configuration_page.page(page)
    shown = tomllib.loads(configuration_page.BLOCK.search(page)[1])
    assert config.parse(shown, "configuration.md") == config.Settings()


def test_the_page_of_logs_shows_what_match_prints(toolkit, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "logs.md").read_text()
    shown = re.search(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1]
    (_, log), *calls = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", shown, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    Path("mail.log").write_text(log)
    for call, printed in calls:
        # The year and the zone are those of the day.
        day = r"\d{4}-\d\d-\d\dT\d\d:"
        out = toolkit(*call.split()[1:]).out
        assert re.sub(day, "#", out) == re.sub(day, "#", printed)
    own = re.search(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1]
    assert [pattern.name for pattern in config.parse(tomllib.loads(own), "").watch.pattern] == [
        "acme"
    ]


def test_the_page_of_logs_names_every_server():
    page = (ROOT / "docs" / "logs.md").read_text()
    for name in server_names():
        assert f"`{name}`" in page


def test_the_changelog_knows_this_version():
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_readme_shows_what_the_demo_prints():
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"^```console\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)[1]
    from tests.cli.test_demo import demo

    # Process numbers and times differ, and the seconds left may.
    varying = r"process \d+|\d\dm \d\ds left|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.sub(varying, "#", shown) in re.sub(varying, "#", demo().stdout)


def test_every_file_that_the_architecture_names_is_there():
    page = (ROOT / "docs" / "architecture.md").read_text()
    package = ROOT / "popbsmtp_wrap"
    named = set(re.findall(r"`([a-z_/]+\.py)`", page))
    assert len(named) > 40
    known = {str(path.relative_to(package)) for path in package.rglob("*.py")}
    known |= {path.rpartition("/")[2] for path in known}
    assert named - known == set()
