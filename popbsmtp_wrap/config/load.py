"""popbsmtp.toml as frozen Settings: read, checked, or refused with what is wrong."""

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, TypeVar

from popbsmtp_wrap.config import parsers
from popbsmtp_wrap.config.database_url import read_url
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

    grace: int = setting(1800, parsers.grace)
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


def load(path: str = DEFAULT_PATH) -> Settings:
    """Return the Settings that the file at *path* holds.

    Raise ConfigError, naming file, key, what was found and what is expected. A file that holds a
    password and that others may read is refused.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            values = tomllib.load(file)
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
    settings = parse(values, path)
    database = settings.database
    secret = database.dialect != "sqlite" and read_url(database.url).password
    if secret and mode & stat.S_IROTH:
        raise ConfigError(
            f"{path} holds a password and is readable by everyone; run: chmod o-rwx {path}"
        )
    return settings


def parse(values: Mapping[str, Any], path: str) -> Settings:
    """Return the Settings for parsed TOML; *path* is for messages. Raise ConfigError."""
    top: dict[str, Any] = {}
    loose = {}
    for key, value in values.items():
        if key not in _SECTIONS:
            loose[key] = value
        elif isinstance(value, dict):
            top[key] = _section(_SECTIONS[key], value, f"{key}.", path)
        else:
            raise ConfigError(f"{path}: {key}: found {value!r}, expected a section [{key}]")
    settings = _section(Settings, loose, "", path, **top)
    names = [name for name in settings.database.columns if name]
    if len({name.lower() for name in names}) < len(names):
        raise ConfigError(f"{path}: database: two columns have the same name: {', '.join(names)}")
    if settings.refresh > settings.grace / 2:
        raise ConfigError(
            f"{path}: recorder.refresh: found {settings.refresh:g} s,"
            f" expected at most half of grace ({settings.grace / 2:g} s)"
        )
    if settings.renew > settings.grace / 2:
        raise ConfigError(
            f"{path}: sessions.renew: found {settings.renew:g} s,"
            f" expected at most half of grace ({settings.grace / 2:g} s)"
        )
    sockets = settings.recorder.sockets
    if len(set(sockets)) < len(sockets):
        raise ConfigError(
            f"{path}: recorder: two sockets have the same path: {', '.join(sorted(sockets))}"
        )
    return settings


def _section(
    cls: type[Section], values: Mapping[str, Any], prefix: str, path: str, **done: Any
) -> Section:
    others = [] if prefix else [f"[{name}]" for name in _SECTIONS]
    known = {item.name: item.metadata for item in fields(cls) if "parse" in item.metadata}  # type: ignore[arg-type]  # every section is a dataclass
    parsed = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(
                f"{path}: {prefix}{key}: unknown key;"
                f" known here: {', '.join([*sorted(known), *others])}"
            )
        try:
            parsed[key] = known[key]["parse"](value)
        except BadValueError as error:
            found = error.found[0] if error.found else value
            found = masked(found) if isinstance(found, str) else found
            raise ConfigError(f"{path}: {prefix}{key}: found {found!r}, expected {error}") from None
    return cls(**done, **parsed)
