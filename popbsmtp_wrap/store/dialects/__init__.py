"""What differs between the databases, one class each, the reason under each difference.

Nothing else in the project asks which database it talks to.
"""

from importlib import import_module
from typing import Final

from popbsmtp_wrap.store.dialects.base import Dialect

__all__ = ["Dialect", "dialect_named"]

_CLASSES: Final = {"postgresql": "PostgreSQL", "mysql": "MySQL", "sqlite": "SQLite"}


def dialect_named(name: str) -> Dialect:
    """Return the dialect of config.Database.dialect.

    Only its module is imported: SQLAlchemy's own for the three cost a login 50 ms.
    """
    module = import_module(f"{__name__}.{name}")
    dialect: Dialect = getattr(module, _CLASSES[name])()
    return dialect
