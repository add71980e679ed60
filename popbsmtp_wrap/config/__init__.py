"""popbsmtp.toml: its sections and defaults, how it is read, and messages for bad values."""

from popbsmtp_wrap.config.load import (
    DEFAULT_PATH,
    Settings,
    files_of,
    fingerprint,
    load,
    parse,
    read,
)
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
    "files_of",
    "fingerprint",
    "load",
    "parse",
    "read",
]
