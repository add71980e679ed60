"""Passwords: read from files that others may not read, never shown."""

import os
import re
import stat

from popbsmtp_wrap.errors import ConfigError


def masked(url: str) -> str:
    """Return *url* with *** for each password: before the host, and among the options."""
    url = re.sub(r"(://[^/@:]*):.*@", r"\1:***@", url)
    return re.sub(r"([?&]\w*passw(?:or)?d\w*=)[^&#]*", r"\1***", url, flags=re.IGNORECASE)


def read_password(path: str) -> str:
    """Return the first line of a password file, without its line end.

    Raise ConfigError when others may read it, or when it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
                raise ConfigError(
                    f"{path} holds a password and is readable by everyone; run: chmod o-rwx {path}"
                )
            return file.readline().rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"password file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"password file {path} is not UTF-8 text") from None
