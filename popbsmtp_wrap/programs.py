"""Where the programs of the mail servers are."""

import os


def search_path() -> str:
    """Return PATH, with the directories of administrators' programs, where Postfix's are."""
    return os.environ.get("PATH", "/bin:/usr/bin") + ":/usr/sbin:/sbin"
