"""What differs between the databases, one class each, the reason under each difference.

Nothing else in the project asks which database it talks to.
"""

from collections.abc import Mapping
from typing import Final

from popbsmtp_wrap.store.dialects.base import Dialect
from popbsmtp_wrap.store.dialects.mysql import MySQL
from popbsmtp_wrap.store.dialects.postgresql import PostgreSQL
from popbsmtp_wrap.store.dialects.sqlite import SQLite

__all__ = ["BY_NAME", "Dialect"]

BY_NAME: Final[Mapping[str, Dialect]] = {d.name: d for d in (PostgreSQL(), MySQL(), SQLite())}
