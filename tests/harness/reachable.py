"""What can be reached from an object, whatever holds it."""

import gc
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterable
from functools import _lru_cache_wrapper

# Modules, classes and code belong to the program, not to the configuration.
PROGRAM = (types.ModuleType, type, types.CodeType)


def referents(thing: object) -> list[object]:
    """Return what *thing* refers to: by attributes, containers, closures, frames."""
    if isinstance(thing, types.FunctionType):
        # Not its globals: those are the module's.
        return [thing.__closure__, thing.__defaults__, thing.__kwdefaults__, thing.__dict__]
    if isinstance(thing, types.FrameType):
        return list(thing.f_locals.values())
    if isinstance(thing, _lru_cache_wrapper) and not thing.__module__.startswith("popbsmtp_wrap"):
        # Of Python's own, which remembers by value: urlsplit().
        return []
    found = gc.get_referents(thing)
    if isinstance(thing, types.CoroutineType | types.AsyncGeneratorType | types.GeneratorType):
        frame = getattr(thing, "cr_frame", None) or getattr(thing, "gi_frame", None)
        found += [frame, getattr(thing, "cr_await", None)]
    if isinstance(thing, threading.Thread):
        frame = sys._current_frames().get(thing.ident or 0)
        while frame is not None:
            found.append(frame)
            frame = frame.f_back
    return found


def search(
    roots: Iterable[object], trace_of: Callable[[object], str | None], aside: Iterable[object]
) -> set[str]:
    """Return what *trace_of* says of objects below *roots*, each with the way to it.

    *trace_of* returns None for what is not looked for; nothing below *aside* is looked at.
    """
    found: set[str] = set()
    # Held, so that no identity is used twice meanwhile.
    held = list(aside)
    seen = {id(thing) for thing in held}
    queue = deque((root, type(root).__name__) for root in roots)
    while queue:
        thing, path = queue.popleft()
        if id(thing) in seen or isinstance(thing, PROGRAM):
            continue
        seen.add(id(thing))
        held.append(thing)
        if key := trace_of(thing):
            found.add(f"{key}: {path}")
            continue
        if isinstance(thing, str | bytes | int | float):
            continue
        for inner in referents(thing):
            if inner is not None:
                queue.append((inner, f"{path} > {type(inner).__name__}"))
    assert len(held) > 1000, "nothing was looked through"
    return found
