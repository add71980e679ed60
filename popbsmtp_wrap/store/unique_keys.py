"""The unique keys of a table as the database describes them, and what they mean for logins."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

# Defaults that differ in each row.
_NEW_IN_EACH_ROW = re.compile(r"nextval|next value|uuid|rand", re.IGNORECASE)


@dataclass(frozen=True)
class UniqueKey:
    """A unique key of a table.

    *parts* are its columns as one writes them; *columns* those that it compares as a whole. *flaw*
    says why an upsert cannot use it. *drop* is the SQL that removes it, "" where rebuild() does.
    """

    parts: tuple[str, ...]
    columns: tuple[str, ...]
    drop: str = ""
    flaw: str = ""
    is_primary: bool = False
    nulls_collide: bool = False

    def __str__(self) -> str:
        """Return it as one writes it."""
        flaw = f" {self.flaw}" if self.flaw else ""
        return f"({', '.join(self.parts)}){flaw}"

    def identifies(self, address: str) -> bool:
        """Tell whether an upsert finds the row of an address by this key."""
        return (self.parts, self.columns, self.flaw) == ((address,), (address,), "")

    def collides(self, address: str, ours: Collection[str], found: Mapping[str, Any]) -> bool:
        """Tell whether logins of two addresses may be the same to this key.

        *ours* are the columns that a login has a value for, *found* the table's, reflected.
        """
        if address in self.columns:
            return False
        return not any(
            name not in ours and name in found and self._is_new_in_each_row(found[name])
            for name in self.columns
        )

    def _is_new_in_each_row(self, column: Mapping[str, Any]) -> bool:
        """Tell whether each row gets a value of its own, or NULL, in a column nobody writes."""
        if column.get("autoincrement") is True or column.get("identity"):
            return True
        if column.get("computed"):
            return False
        default = column["default"]
        if default is None or str(default).upper() == "NULL":
            return not self.nulls_collide
        return bool(_NEW_IN_EACH_ROW.search(str(default)))
