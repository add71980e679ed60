"""The keys in docs/configuration.md, from the code: python -m tests.cli.configuration_page."""

import re
from pathlib import Path
from typing import Final

from popbsmtp_wrap.config.reference import defaults, render

PAGE: Final = Path(__file__).parent.parent.parent / "docs" / "configuration.md"
BLOCK: Final = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page(text: str) -> str:
    """Return *text*, that of the page, with all keys and their defaults in its first block."""
    return BLOCK.sub(lambda _: f"```toml\n{render(defaults())}```", text, count=1)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
