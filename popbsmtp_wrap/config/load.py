"""popbsmtp.toml as frozen Settings: read, checked, or refused with what is wrong."""

import os
import stat
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from popbsmtp_wrap.config import parsers
from popbsmtp_wrap.config.passwords import masked
from popbsmtp_wrap.config.sections import (
    Database,
    Ignore,
    Postfix,
    Recorder,
    Sessions,
    Watch,
    Wrapper,
    setting,
)
from popbsmtp_wrap.errors import BadValueError, ConfigError

DEFAULT_PATH: Final = "/etc/popbsmtp/popbsmtp.toml"
Section = TypeVar("Section")


@dataclass(frozen=True)
class Settings:
    """The whole configuration; grace in seconds."""

    grace: int = setting(
        "30m",
        parsers.grace,
        'How long after a login an address may relay: 90, "90s", "30m" or "2h".',
    )
    database: Database = field(default_factory=Database)
    ignore: Ignore = field(default_factory=Ignore)
    wrapper: Wrapper = field(default_factory=Wrapper)
    recorder: Recorder = field(default_factory=Recorder)
    postfix: Postfix = field(default_factory=Postfix)
    watch: Watch = field(default_factory=Watch)
    sessions: Sessions = field(default_factory=Sessions)

    @property
    def refresh(self) -> float:
        """Seconds in which the recorder writes an address once only."""
        if self.recorder.refresh is None:
            return self.grace / 60
        return self.recorder.refresh

    @property
    def renew(self) -> float:
        """Seconds after which the addresses of open sessions are renewed, 0 for never."""
        return self.grace / 3 if self.sessions.renew is None else self.sessions.renew


_SECTIONS: Final[Mapping[str, type]] = {
    "database": Database,
    "ignore": Ignore,
    "wrapper": Wrapper,
    "recorder": Recorder,
    "postfix": Postfix,
    "watch": Watch,
    "sessions": Sessions,
}


class Written:
    """What popbsmtp.toml and the files of popbsmtp.d say, as TOML has it: one table for all."""

    def __init__(self, path: str) -> None:
        """Nothing is written yet; *path* is that of popbsmtp.toml."""
        self.path = path
        self.values: dict[str, Any] = {}
        # Those of the files that everybody may read.
        self.public: set[str] = set()
        # The file of each key ("section.key").
        self._origins: dict[str, str] = {}

    def add(self, values: Mapping[str, Any], path: str) -> None:
        """Let *values*, from the file at *path*, replace those of the same keys so far."""
        for name, value in values.items():
            self._origins[name] = path
            if isinstance(value, dict):
                self._origins.update({f"{name}.{key}": path for key in value})
            known = self.values.get(name)
            if isinstance(known, dict) and isinstance(value, dict):
                self.values[name] = {**known, **value}
            else:
                self.values[name] = value

    def origin(self, key: str) -> str:
        """Return the file that sets *key*, popbsmtp.toml if none does."""
        return self._origins.get(key, self.path)


def load(path: str = DEFAULT_PATH) -> Settings:
    """Return the Settings of the file at *path* and those of its directory; see read().

    Raise ConfigError, naming file, key, what was found and what is expected. A file that holds a
    password and that others may read is refused.
    """
    written = read(path)
    settings = parse(written.values, path, written.origin)
    url, holder = settings.database.url, written.origin("database.url")
    if masked(url) != url and holder in written.public:
        raise ConfigError(
            f"{holder} holds a password and is readable by everyone; run: chmod o-rwx {holder}"
        )
    return settings


def read(path: str = DEFAULT_PATH) -> Written:
    """Return what the file at *path* says, and after it each *.toml of its directory.

    The directory of popbsmtp.toml is popbsmtp.d beside it; its files are read in the order of their
    names, and the last one that sets a key counts. Raise ConfigError.
    """
    written = Written(path)
    for name in files_of(path):
        values, mode = _read_toml(name)
        written.add(values, name)
        if mode & stat.S_IROTH:
            written.public.add(name)
    return written


def files_of(path: str) -> list[str]:
    """Return *path* and the files of its directory, in the order in which they count."""
    stem, suffix = os.path.splitext(path)
    directory = f"{stem}.d"
    try:
        names = sorted(os.listdir(directory)) if suffix == ".toml" else []
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise ConfigError(f"{directory} cannot be read: {error.strerror}") from None
    # Editors leave hidden files beside the one that they write.
    wanted = [name for name in names if name.endswith(".toml") and not name.startswith(".")]
    return [path, *(f"{directory}/{name}" for name in wanted)]


def fingerprint(path: str) -> tuple[object, ...]:
    """Return what differs once the file at *path*, or one of its directory, has been edited."""
    found: list[object] = []
    try:
        for name in files_of(path):
            file = os.stat(name)
            found += [name, file.st_dev, file.st_ino, file.st_mtime_ns, file.st_size]
    except (OSError, ConfigError) as error:
        found.append(str(error))
    return tuple(found)


def _read_toml(path: str) -> tuple[dict[str, Any], int]:
    """Return the values of the file at *path*, and its mode."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            return tomllib.load(file), mode
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; create it (an empty file means SQLite and all defaults)"
            " or name another one with -c FILE"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        # Not all that tomllib raises is a TOMLDecodeError: a number of 5,000 digits, brackets in
        # brackets without end.
        raise ConfigError(f"{path} is not TOML: {error}") from None


def parse(
    values: Mapping[str, Any], path: str, origin: Callable[[str], str] | None = None
) -> Settings:
    """Return the Settings for parsed TOML. Raise ConfigError.

    Messages name *path*, or the file that *origin* returns for a key.
    """
    origin = origin or (lambda _: path)
    top: dict[str, Any] = {}
    loose = {}
    for key, value in values.items():
        if key not in _SECTIONS:
            loose[key] = value
        elif isinstance(value, dict):
            top[key] = _section(_SECTIONS[key], value, f"{key}.", origin)
        else:
            raise ConfigError(f"{origin(key)}: {key}: found {value!r}, expected a section [{key}]")
    settings = _section(Settings, loose, "", origin, **top)
    names = [name for name in settings.database.columns if name]
    if len({name.lower() for name in names}) < len(names):
        raise ConfigError(f"{path}: database: two columns have the same name: {', '.join(names)}")
    if settings.refresh > settings.grace / 2:
        raise ConfigError(
            f"{origin('recorder.refresh')}: recorder.refresh: found {settings.refresh:g} s,"
            f" expected at most half of grace ({settings.grace / 2:g} s)"
        )
    if settings.renew > settings.grace / 2:
        raise ConfigError(
            f"{origin('sessions.renew')}: sessions.renew: found {settings.renew:g} s,"
            f" expected at most half of grace ({settings.grace / 2:g} s)"
        )
    sockets = settings.recorder.sockets
    if len(set(sockets)) < len(sockets):
        raise ConfigError(
            f"{path}: recorder: two sockets have the same path: {', '.join(sorted(sockets))}"
        )
    return settings


def _section(
    cls: type[Section],
    values: Mapping[str, Any],
    prefix: str,
    origin: Callable[[str], str],
    **done: Any,
) -> Section:
    known = {item.name: item.metadata for item in fields(cls) if "parse" in item.metadata}  # type: ignore[arg-type]  # every section is a dataclass
    parsed = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{origin(prefix + key)}: {prefix}{key}: {_unknown(key, known)}")
        try:
            parsed[key] = known[key]["parse"](value)
        except BadValueError as error:
            found = error.found[0] if error.found else value
            found = masked(found) if isinstance(found, str) else found
            raise ConfigError(
                f"{origin(prefix + key)}: {prefix}{key}: found {found!r}, expected {error}"
            ) from None
    return cls(**done, **parsed)


def _unknown(key: str, known: Collection[str]) -> str:
    """Return the message for *key*, which its section does not have."""
    is_top = "grace" in known
    sections = {
        name: {item.name for item in fields(section)} for name, section in _SECTIONS.items()
    }
    elsewhere = [f"{name}.{key}" for name, keys in sections.items() if key in keys]
    elsewhere += ["grace"] if key == "grace" else []
    near = get_close_matches(key, [*known, *(sections if is_top else ())], 1)
    near = [f"[{name}]" if is_top and name in sections else name for name in near]
    hint = next((f", did you mean {name}?" for name in (*near, *elsewhere)), ";")
    others = [f"[{name}]" for name in sections] if is_top else []
    return f"unknown key{hint} known here: {', '.join([*sorted(known), *others])}"
