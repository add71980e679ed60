"""The launcher: popbsmtp-wrap as a file whose first line starts Python as -I -S."""

import os
import sys
import tempfile

from popbsmtp_wrap.errors import RefusedError

# Linux reads this much of a first line (BINPRM_BUF_SIZE, execve(2)).
_LONGEST_FIRST_LINE = 255


def package_root() -> str:
    """Return the directory that holds the package."""
    return os.path.abspath(__file__).rsplit("/", 3)[0]


def source_path() -> str:
    """Return the launcher that comes with the package; it is not imported, it would run."""
    return os.path.join(package_root(), "popbsmtp_wrap", "wrapper", "launch.py")


def launcher_text(python: str = sys.executable, root: str | None = None) -> str:
    """Return a launcher that *python* runs with the package in directory *root*."""
    with open(source_path(), encoding="utf-8") as file:
        lines = file.read().splitlines(keepends=True)
    lines[0] = f"#!{python} -IS\n"
    if len(lines[0]) > _LONGEST_FIRST_LINE or " " in python:
        raise RefusedError(f"{python} cannot stand in the first line of a program")
    rooted = f"ROOT = {root or package_root()!r}\n"
    return "".join(rooted if line.startswith("ROOT = ") else line for line in lines)


def install(path: str, text: str) -> None:
    """Write *text* to *path* in one step, executable for everyone: logins go on meanwhile.

    Raise RefusedError when it cannot be written.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)))
        try:
            with open(descriptor, "w", encoding="utf-8") as out:
                out.write(text)
                os.fchmod(descriptor, 0o755)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise RefusedError(f"{path} cannot be written: {error.strerror}") from None


def command_beside(program: str) -> list[str]:
    """Return the command that starts the wrapper which belongs to *program* (popbsmtp's path).

    That is popbsmtp-wrap in the same directory if it is a launcher; pip's own script is not, so
    the launcher inside the package is started instead.
    """
    beside = os.path.join(os.path.dirname(os.path.abspath(program)), "popbsmtp-wrap")
    if is_launcher(beside):
        return [beside]
    return [sys.executable, "-IS", source_path()]


def is_launcher(path: str) -> bool:
    """Tell whether the program at *path* starts Python as -I -S."""
    try:
        with open(path, "rb") as file:
            first = file.readline(_LONGEST_FIRST_LINE)
    except OSError:
        return False
    return first.startswith(b"#!") and first.rstrip().endswith(b" -IS")


if __name__ == "__main__":  # make and packagers: PATH [PYTHON ROOT]
    install(sys.argv[1], launcher_text(*sys.argv[2:4]))
