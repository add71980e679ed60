"""popbsmtp.toml: what it holds, how it is read, and what is said of what is wrong in it."""

from popbsmtp_wrap.config.load import DEFAULT_PATH, Settings, load, parse
from popbsmtp_wrap.config.sections import (
    Database,
    Ignore,
    Postfix,
    PostLogin,
    Recorder,
    Sessions,
    Watch,
    Wrapper,
)

__all__ = [
    "DEFAULT_PATH",
    "Database",
    "Ignore",
    "PostLogin",
    "Postfix",
    "Recorder",
    "Sessions",
    "Settings",
    "Watch",
    "Wrapper",
    "load",
    "parse",
]
