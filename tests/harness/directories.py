"""Directories that a server running as another user can reach."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import lifetime

_TEMPLATES = "PBS_TEMPLATES"


def public_directory(name: str = "") -> Path:
    """Return a new directory with a short path, mode 0755, removed when the tests are over.

    Short because a unix socket's path ends at 107 bytes. Unlike pytest's tmp_path it stays
    reachable for other users: every new pytest run sets /tmp/pytest-of-root back to 0700.
    """
    path = Path(tempfile.mkdtemp(prefix=f"pbs{name}", dir="/tmp"))
    path.chmod(0o755)
    lifetime.remove_at_end(path)
    return path


def make_traversable(path: Path) -> None:
    """Let every user pass through *path* and its parents.

    Only directories below /tmp are changed; raise PermissionError if another one is closed.
    """
    for directory in (path, *path.parents):
        mode = directory.stat().st_mode
        if mode & 0o011 == 0o011:
            continue
        if Path("/tmp") not in directory.parents:
            raise PermissionError(f"{directory} is closed for other users; choose a path in /tmp")
        directory.chmod(mode & 0o7777 | 0o011)


class Template:
    """A data directory that is made once per test run and copied for each server."""

    def __init__(self, name: str, make: Callable[[Path], None]) -> None:
        self._name = name
        self._make = make

    def copy_to(self, target: Path) -> None:
        """Create *target*, with the owners and modes of the original."""
        original = self._made() / "template"
        subprocess.run(["cp", "-a", "--reflink=auto", original, target], check=True, timeout=60)

    def _made(self) -> Path:
        """Return the directory that it is in, made by the first process that gets here."""
        folder = share_templates()
        made = folder / self._name
        with (folder / f"{self._name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                begun = public_directory()
                self._make(begun / "template")
                begun.rename(made)
        return made


def share_templates() -> Path:
    """Return where this process and those that it starts from now on keep templates."""
    if _TEMPLATES not in os.environ:
        os.environ[_TEMPLATES] = str(public_directory())
    return Path(os.environ[_TEMPLATES])


def write(path: Path, text: str | bytes, *, mode: int = 0o644, owner: str = "root") -> Path:
    """Return *path*, written and belonging to *owner* ("user" or "user:group")."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    give(path, owner, mode=mode)
    return path


def give(path: Path, owner: str, *, mode: int) -> Path:
    """Return *path*, now of *owner* ("user" or "user:group") with this mode."""
    user, _, group = owner.partition(":")
    shutil.chown(path, user, group or user)
    path.chmod(mode)
    return path
