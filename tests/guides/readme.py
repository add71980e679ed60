"""The commands of README.md and docs/recorder.md, as they stand there."""

import re
from pathlib import Path

README = Path(__file__).parent.parent.parent / "README.md"
RECORDER = README.parent / "docs" / "recorder.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[str]:
    """Return the shell blocks of *text*."""
    return _BLOCK.findall(text)


def section(heading: str) -> str:
    """Return the text below a "## " heading."""
    return re.split(rf"^## {heading}\n", README.read_text(), flags=re.MULTILINE)[1].split("\n## ")[
        0
    ]


def guide(name: str) -> list[str]:
    """Return the blocks of an installation guide, those that all guides begin with in front."""
    common, *guides = section("Install").split("\n### ")
    (chosen,) = (text for text in guides if f"<!-- guide: {name} -->" in text)
    return blocks(common) + blocks(chosen)


def host_of(block: str) -> str:
    """Return the host that a block's first line names, "" without one."""
    match = re.match(r"# on (\S+)\n", block)
    return match[1] if match else ""
