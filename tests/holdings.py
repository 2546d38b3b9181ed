"""How much the objects of a package hold: whatever grows with each client that ever came is found here by its name."""

import asyncio
import gc
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator
from typing import Any

_CONTAINERS = (dict, list, set, deque, bytearray)


def holdings(package: str) -> Counter[str]:
    """Things in containers that are attributes of a package's objects, by class and attribute, over all objects."""
    gc.collect()  # of what other tests have left
    found: Counter[str] = Counter()
    for thing in gc.get_objects():
        if str(type(thing).__module__).split(".")[0] == package:
            for name, value in _attributes(thing):
                if isinstance(value, _CONTAINERS):
                    found[f"{type(thing).__name__}.{name}"] += _things(value)
    return found


async def grown_by_nothing(package: str, before: Counter[str], but: Collection[str] = ()) -> None:
    """Waits until a package's objects hold no more than they did; what is done behind a client's back takes a moment.

    Raises:
        AssertionError: some do; those that are named in `but` may.
    """
    end = time.monotonic() + 60
    while True:
        grown = {name: f"{before[name]} to {size}" for name, size in holdings(package).items() if size > before[name]}
        if grown.keys() <= set(but):
            return
        assert time.monotonic() < end, f"these have grown: {grown}"
        await asyncio.sleep(0.05)


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(thing, "__dict__", {}).items()
    for kind in type(thing).__mro__:
        for name in kind.__dict__.get("__slots__", ()):
            # Structs of msgspec have slots, too.
            if hasattr(thing, name):
                yield name, getattr(thing, name)


def _things(value: Any) -> int:
    """Those of containers inside it, too."""
    inner = value.values() if isinstance(value, dict) else () if isinstance(value, bytearray) else value
    return len(value) + sum(_things(one) for one in inner if isinstance(one, _CONTAINERS))
