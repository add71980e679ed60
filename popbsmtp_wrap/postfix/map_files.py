"""Write Postfix's files, and ask its maps."""

import grp
import os
import pwd
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

from popbsmtp_wrap.errors import (
    ConfigError,
    RefusedError,
    ServiceUnavailableError,
    StoreUnavailableError,
)
from popbsmtp_wrap.postfix.maps import NEWEST, MapFile, Version, parse_version
from popbsmtp_wrap.programs import search_path

POSTFIX_USER = POSTFIX_GROUP = "postfix"
# Readable for proxymap, which opens maps as user postfix.
SECRET_MODE = 0o640
_TIMEOUT_S = 30


def write(files: Iterable[MapFile], directory: str) -> Iterator[str]:
    """Write *files* into *directory*, each in one step; yield each path.

    As root they belong to root:postfix. Raise RefusedError when one cannot be written.
    """
    for file in files:
        path = os.path.join(directory, file.name)
        try:
            _replace(path, file)
        except OSError as error:
            raise RefusedError(f"{path} cannot be written: {error.strerror}") from None
        yield path


def _replace(path: str, file: MapFile) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{file.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as out:
            if os.geteuid() == 0:
                os.fchown(descriptor, 0, _postfix_gid())
            os.fchmod(descriptor, SECRET_MODE if file.secret else 0o644)
            out.write(file.text)
            out.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _postfix_gid() -> int:
    try:
        return grp.getgrnam(POSTFIX_GROUP).gr_gid
    except KeyError:
        return 0


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def installed_version() -> Version:
    """Return the version of the Postfix on this machine, the newest known without one."""
    try:
        return parse_version(_run(["postconf", "-dh", "mail_version"]).stdout)
    except (ServiceUnavailableError, ValueError):
        return NEWEST


def version_of(config_directory: str) -> Version | None:
    """Return the version of the Postfix that *config_directory* configures, None without one."""
    if not os.path.exists(os.path.join(config_directory, "main.cf")):
        return None
    try:
        return parse_version(_run(["postconf", "-dh", "mail_version"]).stdout)
    except (ServiceUnavailableError, ValueError):
        return None


def parameter(name: str, config_directory: str) -> str:
    """Return a main.cf parameter with its $names expanded (postconf -x, Postfix 2.10)."""
    return _run(["postconf", "-c", config_directory, "-xh", name]).stdout


def installed_map_types() -> list[str]:
    """Return the map types of the Postfix on this machine (postconf -m), none without one."""
    try:
        return _run(["postconf", "-m"]).stdout.split()
    except ServiceUnavailableError:
        return []


def owners_hint(path: str) -> str:
    """Return what to type so that Postfix may read *path*, "" when it may."""
    status = os.stat(path)
    if status.st_mode & stat.S_IROTH or status.st_gid == _postfix_gid():
        return ""
    return f"Postfix may not read {path} yet; run as root: chown root:{POSTFIX_GROUP} {path}"


def ask(key: str, table: str, config_directory: str | None = None) -> bool:
    """Return whether Postfix's *table* (type:name) permits *key*, through postmap(1).

    Root asks as Postfix's user, as proxymap will: what that user may not read shows, and nothing
    that it could not write stays behind. Raise ServiceUnavailableError without Postfix,
    StoreUnavailableError when the map gives no answer, ConfigError when its file is missing.
    """
    path = table.partition(":")[2]
    if not os.path.exists(path):
        raise ConfigError(f"{path} does not exist; run: popbsmtp postfix --output DIR")
    options = ["-c", config_directory] if config_directory else []
    done = _run(["postmap", *options, "-q", key, table], as_postfix=os.geteuid() == 0)
    if done.stdout.strip() == "OK":
        return True
    if done.returncode == 1 and not done.stdout.strip() and not done.stderr.strip():
        return False
    trouble = done.stderr.strip() or f"unexpected answer {done.stdout.strip()!r}"
    # The first line names the cause, the later ones that there was one.
    first = trouble.splitlines()[0].removeprefix("postmap: ")
    if "unsupported dictionary type" in first:
        raise ServiceUnavailableError(f"{table}: {first}")
    raise StoreUnavailableError(f"{table}: {first}")


def _run(command: list[str], *, as_postfix: bool = False) -> subprocess.CompletedProcess[str]:
    """Run one of Postfix's programs, also where sbin is not in PATH."""
    identity: dict[str, Any] = {}
    if as_postfix and _exists(POSTFIX_USER):
        identity = {"user": POSTFIX_USER, "group": POSTFIX_GROUP, "extra_groups": [], "cwd": "/"}
    try:
        return subprocess.run(
            command,
            **identity,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env={**os.environ, "PATH": search_path()},
        )
    except (FileNotFoundError, PermissionError):
        raise ServiceUnavailableError(
            f"{command[0]} is not there; install Postfix, or run this where it is"
        ) from None
    except subprocess.TimeoutExpired:
        raise StoreUnavailableError(f"{command[0]}: no answer within {_TIMEOUT_S} s") from None
