"""What this thread's calls leave behind, and who is told of them."""

from __future__ import annotations

import threading
from typing import Any

from sillar.errors import CompileError


class _State(threading.local):
    """`on`: calls leave nodes. `listeners` are told of each call.

    `trace` is the one among them that writes a step down to compile it, or None.
    `differentiated` is the tensor that a gradient is being taken of, for them to know.
    `share` says which part of a batch is computed here; None if all of it is.
    """

    on = True
    trace: Any = None
    listeners: tuple[Any, ...] = ()
    differentiated: Any = None
    share: Any = None


recording = _State()


def leave_graph(what: str) -> None:
    """Raise if a step is being compiled: its values differ at each replay."""
    if recording.trace is not None:
        raise CompileError(
            f"compile: {what} reads a tensor's values in Python, which a replayed step"
            " cannot do: return the tensor from the step, or choose with sillar.where"
        )
