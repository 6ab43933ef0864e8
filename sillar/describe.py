"""Objects as plain data and back, from closed lists of classes.

The constructor of a describable class keeps each argument as an attribute of the same
name. A description is what JSON and TOML hold: {"type": "Dense", "n_in": 4, ...}.
"""

from __future__ import annotations

import reprlib  # what came may be nested deeper than repr can go
from collections.abc import Mapping
from typing import Any

from sillar.errors import ConfigError


def signature(kind: type) -> dict[str, Any]:
    """Return the constructor's parameters by name."""
    import inspect

    if kind.__init__ is object.__init__:  # type: ignore[misc]
        return {}
    named = inspect.signature(kind.__init__).parameters.items()  # type: ignore[misc]
    return {name: spec for name, spec in named if name != "self"}


def arguments(thing: Any) -> dict[str, Any]:
    """Return the constructor's arguments, read back from the attributes.

    Where an argument was whether to have something, the attribute may be the thing.
    """
    found = {}
    for name, spec in signature(type(thing)).items():
        value = vars(thing)[name]
        if isinstance(spec.default, bool):
            value = value is not None and value is not False
        found[name] = value
    return found


def label(thing: Any) -> str:
    """Return the class and the arguments that are not defaults, as in Dense(288, 10).

    An object that did not keep its arguments is named by its class alone.
    """
    name = type(thing).__name__
    try:
        given = arguments(thing)
    except KeyError:
        return name
    parts = []
    for argument, spec in signature(type(thing)).items():
        value = given[argument]
        text = _text(value)
        if spec.kind is not spec.KEYWORD_ONLY and spec.default is spec.empty:
            parts.append(text)
        elif spec.default is spec.empty or text != _text(spec.default):
            parts.append(f"{argument}={text}")
    return f"{name}({', '.join(parts)})"


def _text(value: Any) -> str:
    return getattr(value, "__name__", None) or f"{value!r:.40}"


def construct(owner: str, table: Any, kinds: Mapping[str, Any]) -> Any:
    """Return the object that `table` describes, its "type" being one of `kinds`.

    Every mistake is a ConfigError that begins with `owner`.
    """
    if not isinstance(table, Mapping) or not isinstance(table.get("type"), str):
        raise ConfigError(
            f"{owner}: expected a table with a type, as in {{type = 'name'}},"
            f" got {reprlib.repr(table)}"
        )
    kind = kinds.get(table["type"])
    if kind is None:
        raise ConfigError(
            f"{owner}: unknown type {table['type']!r:.40}; known are"
            f" {', '.join(sorted(kinds))}"
        )
    given = {str(name): value for name, value in table.items() if name != "type"}
    known = signature(kind)
    unknown = [name for name in given if name not in known]
    missing = [
        name
        for name, spec in known.items()
        if spec.default is spec.empty and name not in given
    ]
    if unknown or missing:
        raise ConfigError(
            f"{owner}: {table['type']} takes ({', '.join(known)}): missing {missing},"
            f" unknown {unknown!r:.200}"
        )
    try:
        return kind(**given)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{owner}: {error}") from None
