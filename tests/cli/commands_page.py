"""docs/commands.md, made from the commands' own help: python -m tests.cli.commands_page."""

from pathlib import Path

import click

from popbsmtp_wrap.cli.main import MODULES, popbsmtp

PAGE = Path(__file__).parent.parent.parent / "docs" / "commands.md"
_TOP = """\
# Commands

What each command says of itself with `--help`. This page is made from there; a test compares them.
Check that the toolkit works with `popbsmtp --version`.
"""


def page() -> str:
    """Return the text of the page."""
    parts = [_TOP, _help(popbsmtp, "popbsmtp")]
    for name in sorted(MODULES):
        command = popbsmtp.get_command(click.Context(popbsmtp), name)
        assert command
        parts += [f"\n## popbsmtp {name}\n", _help(command, f"popbsmtp {name}")]
    return "\n".join(parts)


def _help(command: click.Command, name: str) -> str:
    # As the group hands them on: click remembers a command's help option from its first use.
    names = popbsmtp.context_settings["help_option_names"]
    context = click.Context(command, info_name=name, terminal_width=90, help_option_names=names)
    return f"```\n{command.get_help(context)}\n```"


if __name__ == "__main__":
    PAGE.write_text(page() + "\n")
