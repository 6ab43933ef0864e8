"""The one place where text of our own becomes a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def function(
    arguments: Sequence[str], lines: Sequence[str], names: Mapping[str, Any]
) -> Callable[..., Any]:
    """Return the function of these lines; what `names` holds are its defaults.

    Defaults are local variables, the fastest that Python has.
    """
    head = f"def replay({', '.join([*arguments, *(f'{n}={n}' for n in names)])}):"
    scope = dict(names)
    exec(compile("\n    ".join([head, *lines]), "<sillar plan>", "exec"), scope)
    replay: Callable[..., Any] = scope["replay"]
    return replay
