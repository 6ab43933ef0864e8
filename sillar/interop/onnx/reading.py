"""`load`: an ONNX file as a layer, read as if hostile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from sillar.core.rng import Rng
from sillar.core.tape import lift
from sillar.core.tensor import Tensor
from sillar.data.source import open_source
from sillar.errors import FormatError, ShapeError, SillarError
from sillar.interop.onnx.operations import OPERATIONS, run
from sillar.nn import Layer, Parameter

LIMIT = 2**31  # bytes
NODES = 100_000
OPSETS = range(13, 22)  # in which the operations mean the same


class Node(NamedTuple):
    """A node of the graph; an input that is left away is ""."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


class Imported(Layer):
    """The graph of an ONNX file, on any back end.

    Weights of one axis or more and a floating type are parameters; other constants
    stay. Images have channels where the file has them.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        inputs: Sequence[str],
        outputs: Sequence[str],
        weights: Mapping[str, np.ndarray],
    ) -> None:
        self._nodes, self._inputs, self._outputs = nodes, inputs, outputs
        self.weights, self._constants = {}, {}
        for name, array in weights.items():
            if array.dtype.kind == "f" and array.ndim:
                self.weights[name] = _parameter(array)
            else:
                self._constants[name] = array

    def forward(self, *inputs: Tensor) -> Any:
        if len(inputs) != len(self._inputs):
            raise ShapeError(
                f"{self!r}: expected {len(self._inputs)} inputs {[*self._inputs]}, got"
                f" {len(inputs)}"
            )
        values: dict[str, Any] = {"": None, **self._constants, **self.weights}
        values |= zip(self._inputs, inputs, strict=True)
        for node in self._nodes:
            given = [values[name] for name in node.inputs]
            try:
                values[node.outputs[0]] = run(node.op, node.attributes, given)
            except SillarError:
                raise
            except Exception as error:  # whatever a file that is wrong leads to
                raise FormatError(
                    f"ONNX: {node.op} {node.outputs[0]!r}: {error!s:.200}"
                ) from error
        found = tuple(lift(values[name]) for name in self._outputs)
        return found[0] if len(found) == 1 else found

    def __repr__(self) -> str:
        return f"Imported({len(self._nodes)} nodes)"


def load(path: str | Path) -> Layer:
    """Return the model in an ONNX file as a layer with its weights.

    Nothing in the file is run but operations of a closed list; data in other files is
    refused.
    """
    with open_source(path, "onnx.load") as source:
        data = source.read(LIMIT + 1)
    what = f"onnx.load {str(path)!r}"
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's, of several kinds
        raise FormatError(f"{what}: not an ONNX file: {error!s:.100}") from None
    try:
        return _layer(model)
    except FormatError as error:
        raise FormatError(f"{what}: {error}") from None


def _layer(model: Any) -> Layer:
    graph = model.graph
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if not versions or versions[0] not in OPSETS:
        raise FormatError(
            f"expected opset {OPSETS[0]} to {OPSETS[-1]} of ONNX, got {versions}"
        )
    if len(graph.node) > NODES:
        raise FormatError(f"expected at most {NODES:,} nodes, got {len(graph.node):,}")
    weights = {t.name: _array(t) for t in graph.initializer}
    nodes = [_node(n) for n in graph.node]
    inputs = [i.name for i in graph.input if i.name not in weights]
    constants = [n for n in nodes if n.op == "Constant"]
    weights |= {n.outputs[0]: n.attributes["value"] for n in constants}
    nodes = [n for n in nodes if n.op != "Constant"]
    outputs = [o.name for o in graph.output]
    _check_order(nodes, {"", *inputs, *weights}, outputs)
    return Imported(nodes, inputs, outputs, weights).init(Rng(0), "float32")


def _node(node: Any) -> Node:
    known = node.domain in ("", "ai.onnx") and node.op_type in OPERATIONS
    if not known and node.op_type != "Constant":
        raise FormatError(
            f"unknown operation {node.domain}{'.' if node.domain else ''}"
            f"{node.op_type!s:.40}; known are {', '.join(sorted(OPERATIONS))}"
        )
    if not node.output or not node.output[0]:
        raise FormatError(f"{node.op_type}: expected an output, got none")
    attributes = {"op": node.op_type}
    for a in node.attribute:
        try:
            value = onnx.helper.get_attribute_value(a)
        except Exception as error:
            raise FormatError(f"{node.op_type}.{a.name!s:.40}: {error!s:.80}") from None
        attributes[a.name] = value.decode() if isinstance(value, bytes) else value
    if node.op_type == "Constant":
        value = attributes.get("value")
        if not isinstance(value, onnx.TensorProto):
            raise FormatError("Constant: expected a tensor as its value")
        attributes["value"] = _array(value)
    return Node(node.op_type, (*node.input,), (*node.output,), attributes)


def _array(tensor: Any) -> np.ndarray:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise FormatError(f"{tensor.name!s:.60}: its data is in another file: refused")
    try:
        return np.array(numpy_helper.to_array(tensor))
    except Exception as error:  # sizes that do not fit, unknown types
        raise FormatError(f"{tensor.name!s:.60}: {error!s:.100}") from None


def _check_order(
    nodes: Sequence[Node], known: set[str], outputs: Sequence[str]
) -> None:
    """Refuse values that are used before they are made, as in a circle."""
    for node in nodes:
        missing = [name for name in node.inputs if name not in known]
        if missing:
            raise FormatError(f"{node.op}: {missing[0]!r:.60} is not made before it")
        known.add(node.outputs[0])
    for name in outputs:
        if not name or name not in known:
            raise FormatError(f"the output {name!r:.60} is never made")
    if not outputs:
        raise FormatError("expected an output, got none")


def _parameter(array: np.ndarray) -> Parameter:
    return Parameter(array.shape, lambda rng, shape, dtype: array.astype(dtype))
