"""The nodes of an ONNX graph as they are written, and where each value is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import helper, numpy_helper

from sillar.errors import ConfigError

FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)  # axes: to channels first, to channels last
BATCH, SCALED = -1, -2  # sizes that are the batch's, or go with it otherwise


class Traced(NamedTuple):
    """A call of a primitive; sizes that go with the batch are < 0."""

    name: str
    inputs: tuple[Any, ...]  # numbers of values, or (scalar,)
    static: dict[str, Any]
    output: int
    shapes: tuple[tuple[int, ...], ...]  # of the inputs, () for scalars
    shape: tuple[int, ...]
    dtype: Any
    forward: Callable[..., Any]


class Writer:
    """Names of values, and the nodes that make them.

    A value of images may be there with channels last, as Sillar has them, with channels
    first, as ONNX's kernels want them, or both: it is turned where somebody needs it.
    """

    def __init__(self, first_input: str) -> None:
        self.first_input = first_input
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}
        self.constants: dict[int, np.ndarray] = {}  # by the number of a value
        self.titles: dict[int, str] = {}  # names of parameters
        self.last: dict[int, str] = {}  # names of values as they are
        self.first: dict[int, str] = {}  # names of values with channels first
        self.dtypes: dict[int, Any] = {}
        self.batch = ""

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Write a node; return the name of its output."""
        name = f"{op}_{len(self.nodes)}"
        attributes = {k: v for k, v in attributes.items() if v is not None}
        node = helper.make_node(op, inputs, [name], name=name, **attributes)
        self.nodes.append(node)
        return name

    def constant(self, value: Any, dtype: Any = None, title: str = "") -> str:
        """Return the name of a constant; float64 becomes float32."""
        array = np.asarray(value, dtype)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        name = title or f"constant_{len(self.weights)}"
        known = self.weights.get(name)
        if known is not None and not np.array_equal(known, array):
            name = f"{name}_{len(self.weights)}"
        if not title:
            for other, kept in self.weights.items():
                same = kept.dtype == array.dtype and kept.shape == array.shape
                if array.size < 100 and same and kept.tobytes() == array.tobytes():
                    return other
        self.weights[name] = np.ascontiguousarray(array).reshape(array.shape)
        return name

    def integer(self, value: int) -> str:
        """Return the name of a constant whole number."""
        return self.constant(np.array(value, np.int64))

    def integers(self, values: Sequence[int]) -> str:
        """Return the name of a constant vector of integers."""
        return self.constant(np.array(values, np.int64))

    def value(self, i: Any, dtype: Any = None) -> str:
        """Return the name of a value as it is, cast to `dtype`."""
        if isinstance(i, tuple):
            return self.constant(i[0], dtype)
        if i in self.constants:
            return self.constant(self.constants[i], dtype, self.titles.get(i, ""))
        if i not in self.last:
            self.last[i] = self.add("Transpose", self.first[i], perm=LAST)
        return self.cast(self.last[i], self.dtypes[i], dtype)

    def channels_first(self, i: int) -> str:
        """Return the name of images (n, c, h, w)."""
        if i not in self.first:
            self.first[i] = self.add("Transpose", self.value(i), perm=FIRST)
        return self.first[i]

    def cast(self, name: str, given: Any, wanted: Any) -> str:
        """Return a value as `wanted`; both floating types are float32 here."""
        if wanted is None or single(given) == single(wanted):
            return name
        to = helper.np_dtype_to_tensor_dtype(single(wanted))
        return self.add("Cast", name, to=to)

    def sizes(self, shape: Sequence[int]) -> str:
        """Return the name of a vector: the input's size for BATCH, -1 for SCALED."""
        if BATCH not in shape:
            return self.integers([max(n, -1) for n in shape])
        if not self.batch:
            whole = self.add("Shape", self.first_input)
            self.batch = self.add("Gather", whole, self.integers([0]), axis=0)
        parts = [
            self.batch if n == BATCH else self.integers([max(n, -1)]) for n in shape
        ]
        return self.add("Concat", *parts, axis=0)

    def known(self, i: Any, owner: str) -> np.ndarray:
        """Return a value that must be a constant."""
        if i not in self.constants:
            raise ConfigError(
                f"ONNX: {owner}: expected weights that do not depend on the input"
            )
        return self.constants[i]


def single(dtype: Any) -> np.dtype:
    """Return the type that a value has in the file."""
    dtype = np.dtype(dtype)
    return np.dtype(np.float32) if dtype.kind == "f" else dtype


def tensor(name: str, array: np.ndarray) -> Any:
    """Return a weight of the file."""
    return numpy_helper.from_array(array, name)
