"""Every key of popbsmtp.toml with its value and its meaning, as TOML with comments."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any

from popbsmtp_wrap.config.load import Settings
from popbsmtp_wrap.config.passwords import masked


def defaults() -> dict[str, Any]:
    """Return the default of each key as TOML has it; docs/configuration.md shows them."""
    return in_force({})


def in_force(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return *values*, a checked popbsmtp.toml, with defaults for what it leaves out.

    Passwords are masked.
    """
    found: dict[str, Any] = {}
    for item in fields(Settings):
        section = _section(item)
        if section:
            given = values.get(item.name, {})
            found[item.name] = {key.name: _value(key, given) for key in section}
        else:
            found[item.name] = _value(item, values)
    return found


def render(values: Mapping[str, Any]) -> str:
    """Return *values*, as in_force() gives them, as the text of a popbsmtp.toml."""
    parts = ["\n".join(_key(i, values[i.name]) for i in fields(Settings) if not _section(i))]
    for item in fields(Settings):
        if section := _section(item):
            of_section = values[item.name]
            # A table ends the section before it.
            tables = [key for key in section if isinstance(of_section[key.name], Mapping)]
            lines = [_key(key, of_section[key.name]) for key in section if key not in tables]
            parts.append("\n".join([f"[{item.name}]", *lines]))
            for table in tables:
                name = f"{item.name}.{table.name}"
                parts.append("\n".join(_table(name, table, of_section[table.name])))
    return "\n\n".join(parts) + "\n"


def _section(item: Field[Any]) -> tuple[Field[Any], ...]:
    """Return the keys of a section, () for a key that belongs to none."""
    default = getattr(Settings(), item.name)
    return fields(default) if is_dataclass(default) else ()


def _value(item: Field[Any], given: Mapping[str, Any]) -> Any:
    value = given.get(item.name, item.metadata["written"])
    return masked(value) if item.metadata["secret"] else value


def _key(item: Field[Any], value: Any) -> str:
    return f"# {item.metadata['meaning']}\n{item.name} = {_toml(value)}"


def _table(name: str, item: Field[Any], value: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {item.metadata['meaning']}"
    yield f"[{name}]"
    for key, one in value.items():
        yield f"{key} = {_toml(one)}"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # What else TOML has is as in JSON, but for a character that has to be escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
