"""Where a call comes from: the layer and the user's line, read from the stack."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import CodeType, FrameType
from typing import Any
from weakref import ref

import numpy as np

from sillar.core.state import recording
from sillar.core.tape import Primitive
from sillar.core.tensor import Tensor
from sillar.nn import Layer, Loss
from sillar.nn.layer import parts_of

# What a frame says: nothing, a line of the user's, whose call it is.
_INSIDE, _USER, _OWNER = range(3)
_LIBRARIES = (
    os.path.dirname(os.path.dirname(__file__)) + os.sep,
    os.path.dirname(np.__file__) + os.sep,
    "<frozen ",
)
_STANDARD = sysconfig.get_path("stdlib") + os.sep
_INSTALLED = sysconfig.get_path("purelib") + os.sep  # it may lie in the one above
_CALL = Primitive.__call__.__code__
_MOST_NODES = 200_000  # remembered for the way back: some 20 MB


@dataclass(frozen=True, eq=False)
class Where:
    """Where a call comes from. Equal places of one `Places` are one object.

    `layer` is the path below the model, as "layers.3", or the class of what has no
    path: the model itself, a loss. It is "" outside of both. On the way back,
    `backward`, all is that of the forward call which is differentiated.
    """

    layer: str = ""
    kind: str = ""  # the class of the layer
    file: str = ""
    line: int = 0
    function: str = ""
    backward: bool = False

    @property
    def place(self) -> str:
        """Return file and line, as "train.py:12"; "" if no code of the user's is."""
        return f"{os.path.basename(self.file)}:{self.line}" if self.file else ""

    def __str__(self) -> str:
        named = self.layer not in ("", self.kind)
        parts = [f"{self.layer} ({self.kind})" if named else self.layer]
        parts += [f"{self.place} in {self.function}"] if self.file else []
        parts += ["on the way back"] if self.backward else []
        return ", ".join(filter(None, parts)) or "outside of any layer"


class Places:
    """Tells a listener where the call comes from that it hears.

    Layers are named below `model`, or else below the outermost layer being called.
    """

    def __init__(self, model: Layer | None = None) -> None:
        self._kinds = {id(code): _OWNER for code in _owning()}
        self._codes: list[CodeType] = []
        self._names: dict[int, tuple[Any, str, str]] = {}  # reference, path, class
        self._known: dict[tuple[int, int, str, str, bool], Where] = {}
        self._equal: dict[tuple[Any, ...], Where] = {}
        self._returns: dict[Where, Where] = {}
        self._nodes: dict[int, Where] = {}
        if model is not None:
            self._name_below(model)

    def here(self, out: Tensor | None = None) -> Where:
        """Return where the call being heard comes from.

        Given its output, the place is kept for the calls on the way back from it.
        """
        y = recording.differentiated
        where = None
        if y is not None:
            forward = self._nodes.get(y.node.order)
            where = forward and (self._returns.get(forward) or self._return_of(forward))
        if where is None:
            frame: FrameType | None = sys._getframe(2)
            while frame is not None and frame.f_code is not _CALL:
                frame = frame.f_back  # the listener's own frames
            where = self._walked(frame, y is not None)
        if out is not None and out.node is not None:
            nodes = self._nodes
            nodes[out.node.order] = where
            if len(nodes) > _MOST_NODES:
                del nodes[next(iter(nodes))]
        return where

    def of(self, y: Tensor) -> Where | None:
        """Return where the call came from that made y, if it was heard and recorded."""
        return None if y.node is None else self._nodes.get(y.node.order)

    def _walked(self, frame: FrameType | None, backward: bool) -> Where:
        owner = line = owner_frame = None
        kind_of = self._kinds.get
        while frame is not None:
            code = frame.f_code
            kind = kind_of(id(code))
            if kind is None:
                kind = self._kind(code)
            if kind == _OWNER and owner is None:
                owner, owner_frame = frame.f_locals["self"], frame
                if line is not None:
                    break
            elif kind == _USER and line is None:
                line = frame
                if owner is not None:
                    break
            frame = frame.f_back
        return self._place(owner, owner_frame, line, backward)

    def _place(
        self,
        owner: Any,
        owner_frame: FrameType | None,
        line: FrameType | None,
        backward: bool,
    ) -> Where:
        path, kind = self._name(owner, owner_frame) if owner_frame else ("", "")
        code, at = (line.f_code, line.f_lasti) if line else (None, 0)
        key = id(code), at, path, kind, backward
        where = self._known.get(key)
        if where is None:
            spot = (code.co_filename, line.f_lineno, code.co_name) if line else ()
            new = Where(path, kind, *spot, backward=backward)
            where = self._equal.setdefault((path, kind, *spot, backward), new)
            self._known[key] = where
        return where

    def _return_of(self, forward: Where) -> Where:
        """Return the same place on the way back."""
        there = forward if forward.backward else replace(forward, backward=True)
        self._returns[forward] = there
        return there

    def _kind(self, code: CodeType) -> int:
        file = code.co_filename
        standard = file.startswith(_STANDARD) and not file.startswith(_INSTALLED)
        theirs = not standard and not file.startswith(_LIBRARIES)
        self._kinds[id(code)] = kind = _USER if theirs else _INSIDE
        self._codes.append(code)  # it must not die, or another may get its id
        return kind

    def _name(self, owner: Any, frame: FrameType) -> tuple[str, str]:
        """Return the path below the model, or the class, and the class."""
        known = self._names.get(id(owner))
        if known is None or known[0]() is not owner:  # another may have had its id
            if isinstance(owner, Layer):
                self._name_below(_outermost(owner, frame))
            known = self._names.get(id(owner))
            if known is None or known[0]() is not owner:
                known = self._names[id(owner)] = _named("", owner)
        return known[1:]

    def _name_below(self, root: Layer) -> None:
        for path, layer in named_layers(root):
            self._names[id(layer)] = _named(path, layer)


def _named(path: str, owner: Any) -> tuple[Any, str, str]:
    kind = type(owner).__name__
    return ref(owner), path or kind, kind


def _outermost(layer: Any, frame: FrameType) -> Layer:
    """Return the layer whose call all others in the stack are part of."""
    outer = frame.f_back
    while outer is not None:
        if outer.f_code is Layer.__call__.__code__:
            layer = outer.f_locals["self"]
        outer = outer.f_back
    return layer


def named_layers(model: Any) -> Iterator[tuple[str, Layer]]:
    """Yield every layer once with its dotted path; that of the model itself is ""."""
    seen: set[int] = set()
    stack: list[tuple[str, Any]] = [("", model)]
    while stack:
        path, thing = stack.pop()
        if isinstance(thing, Layer):
            if id(thing) in seen:
                continue
            seen.add(id(thing))
            yield path, thing
        below = [(place, part) for place, _, part in parts_of(thing, path)]
        stack.extend(reversed(below))


def _owning() -> Iterator[CodeType]:
    """Yield the code whose frames hold the layer or loss of a call, as `self`."""
    yield Layer.__call__.__code__
    yield Loss.compute.__code__
    for inner in Layer.__call__.__code__.co_consts:
        if isinstance(inner, CodeType) and "backward" in inner.co_names:
            yield inner  # lambda g: self.backward(g, ...)
