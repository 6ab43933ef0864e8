"""An optimizer's rule as a list of calls that write into a few small buffers.

The rule's own text runs once, on symbols that write down what is done to them. Then
each block of the vectors runs through the calls with nothing allocated, and a block
with its buffers stays in the cache. Several blocks are shared among threads, to the
same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from sillar.backends.base import Array
from sillar.backends.numpy import threads
from sillar.backends.numpy.source import function
from sillar.errors import CompileError

BLOCK = 32_768  # elements: six blocks of float32 fit into an L2 cache of 1 MiB
FUNCTIONS = frozenset(
    (
        *(np.add, np.subtract, np.multiply, np.divide, np.negative, np.sqrt, np.square),
        *(np.power, np.exp, np.log, np.tanh, np.absolute, np.sign, np.maximum),
        np.minimum,
    )
)
ROOTS = {0.5: np.sqrt, 2: np.square}  # as x ** 0.5 and x ** 2 are computed in NumPy


class _Number:
    """A Python number that differs from step to step; arithmetic on it is noted."""

    def __init__(self, lines: list[str], text: str) -> None:
        self.lines, self.text = lines, text

    def _note(self, left: Any, sign: str, right: Any) -> Any:
        if not all(isinstance(x, _Number | int | float) for x in (left, right)):
            return NotImplemented
        name = f"n{len(self.lines)}"
        self.lines.append(f"{name} = {_text(left)} {sign} {_text(right)}")
        return _Number(self.lines, name)

    def __add__(self, other: Any) -> Any:
        return self._note(self, "+", other)

    def __radd__(self, other: Any) -> Any:
        return self._note(other, "+", self)

    def __sub__(self, other: Any) -> Any:
        return self._note(self, "-", other)

    def __rsub__(self, other: Any) -> Any:
        return self._note(other, "-", self)

    def __mul__(self, other: Any) -> Any:
        return self._note(self, "*", other)

    def __rmul__(self, other: Any) -> Any:
        return self._note(other, "*", self)

    def __truediv__(self, other: Any) -> Any:
        return self._note(self, "/", other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._note(other, "/", self)

    def __pow__(self, other: Any) -> Any:
        return self._note(self, "**", other)

    def __rpow__(self, other: Any) -> Any:
        return self._note(other, "**", self)

    def __bool__(self) -> bool:
        raise CompileError("the rule depends on a number's value in Python")

    __hash__ = None  # type: ignore[assignment]  # no set or dictionary of them
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = (  # no set or dictionary of them
        lambda self, other: self.__bool__()
    )


class _Vector(NDArrayOperatorsMixin):
    """A block of a vector; functions of NumPy on it are noted, not computed."""

    def __init__(self, calls: list[Any], name: str) -> None:
        self.calls, self.name = calls, name

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kw: Any) -> Any:
        known = all(isinstance(x, (_Vector, _Number, int, float)) for x in inputs)
        if ufunc not in FUNCTIONS or method != "__call__" or kw or not known:
            raise CompileError(f"the rule calls {ufunc.__name__} in an unknown way")
        if ufunc is np.power and type(inputs[1]) in (int, float) and inputs[1] in ROOTS:
            ufunc, inputs = ROOTS[inputs[1]], inputs[:1]
        out = _Vector(self.calls, f"c{len(self.calls)}")
        self.calls.append((ufunc, inputs, out))
        return out


class Rule:
    """The calls of update(p, g, state, lr, t), ready to run on blocks of vectors.

    Raises CompileError, or whatever the rule raises on symbols, if the rule is more
    than arithmetic on whole vectors.
    """

    def __init__(self, update: Callable[..., Any], state: Sequence[str]) -> None:
        self._calls: list[tuple[Any, tuple[Any, ...], _Vector]] = []
        self._numbers: list[str] = []
        lr, t = (_Number(self._numbers, text) for text in ("lr", "t"))
        p, g, *own = (_Vector(self._calls, f"v{i}") for i in range(2 + len(state)))
        moved, new = update(p, g, dict(zip(state, own, strict=True)), lr, t)
        results = [moved, *(new[name] for name in state)]
        goals = {r.name: v.name for r, v in zip(results, (p, *own), strict=True)}
        if len(goals) < len(results) or any(
            value[0] == "v" and value != target for value, target in goals.items()
        ):
            raise CompileError("the rule moves a vector into the place of another")
        self._vectors = [v.name for v in (p, g, *own)]
        self._slots = 0
        self._run = self._compiled(goals)

    def shares(self, vectors: Sequence[Array]) -> list[Any]:
        """Return what `run` takes: p, g and the state in blocks, a share per thread."""
        blocks = -(-vectors[0].shape[0] // BLOCK)
        count = max(1, min(threads.threads(), blocks))
        ends = [min(blocks * k // count * BLOCK, len(vectors[0])) for k in range(count)]
        return [
            self._blocks(vectors, start, stop)
            for start, stop in pairwise([*ends, len(vectors[0])])
        ]

    def whole(self, vectors: Sequence[Array]) -> list[Any]:
        """Return what `run` takes for one thread."""
        return [self._blocks(vectors, 0, vectors[0].shape[0])]

    def run(self, shares: list[Any], lr: float, t: int) -> None:
        """Apply the rule in place to shares of the vectors."""
        if len(shares) == 1:
            self._run(shares[0], lr, t)
        else:
            threads.run([partial(self._run, blocks, lr, t) for blocks in shares])

    def _blocks(self, vectors: Sequence[Array], start: int, stop: int) -> list[Any]:
        size, dtype = min(BLOCK, stop - start), vectors[0].dtype
        spare = [np.empty(size, dtype) for _ in range(self._slots)]
        cut = []
        for first in range(start, stop, BLOCK):
            last = min(first + BLOCK, stop)
            slots = (s[: last - first] for s in spare)
            cut.append((*(v[first:last] for v in vectors), *slots))
        return cut

    def _compiled(self, goals: dict[str, str]) -> Callable[..., None]:
        places, writes = self._places(goals)
        names = {f"f{i}": call[0] for i, call in enumerate(self._calls)}
        slots = [f"s{i}" for i in range(self._slots)]
        body = [f"for {', '.join([*self._vectors, *slots])}, in blocks:"]
        for i, (_, inputs, out) in enumerate(self._calls):
            operands = [places[x.name] if _is_vector(x) else _text(x) for x in inputs]
            body.append(f"    f{i}({', '.join(operands)}, out={places[out.name]})")
        body += [f"    copyto({target}, {place})" for target, place in writes]
        names["copyto"] = np.copyto
        return function(
            ["blocks", "lr", "t"], [*self._numbers, *body, "    pass"], names
        )

    def _places(self, goals: dict[str, str]) -> tuple[dict[str, str], list[Any]]:
        """Return where each value lies, and what is copied at the end of a block.

        A result goes straight to its goal once nothing reads the old value any more.
        """
        last = dict.fromkeys(self._vectors, -1)
        for i, (_, inputs, _) in enumerate(self._calls):
            last |= {x.name: i for x in inputs if _is_vector(x)}
        places = {name: name for name in self._vectors}
        free: list[str] = []
        writes = []
        for i, (_, inputs, out) in enumerate(self._calls):
            gone = {x.name for x in inputs if _is_vector(x) and last[x.name] == i}
            free += sorted(places[v] for v in gone - set(goals) if places[v][0] == "s")
            goal = goals.get(out.name)
            if goal is not None and last[goal] <= i:
                places[out.name] = goal
                continue
            if not free:
                free.append(f"s{self._slots}")
                self._slots += 1
            places[out.name] = free.pop()
            if goal is not None:
                writes.append((goal, places[out.name]))
        return places, writes


def _is_vector(value: Any) -> bool:
    return isinstance(value, _Vector)


def _text(value: Any) -> str:
    return value.text if isinstance(value, _Number) else repr(value)
