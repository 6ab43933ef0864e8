"""`export`: a model's forward pass as an ONNX file, which is run before it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

import sillar
from sillar.backends import backend_of
from sillar.core.compile import raw
from sillar.core.tape import no_grad
from sillar.core.tensor import wrap
from sillar.core.trace import Trace
from sillar.errors import ConfigError, missing
from sillar.files import replacing
from sillar.interop.onnx import kernels  # noqa: F401 - its forms
from sillar.interop.onnx.nodes import write
from sillar.interop.onnx.writer import (
    BATCH,
    SCALED,
    Traced,
    Writer,
    single,
    tensor,
)
from sillar.nn import Layer

OPSET = 17  # of 2022: ONNX Runtime 1.12 and all since read it
IR_VERSION = 8
ROWS = (2, 3)  # batches that are traced, and compared
TOLERANCE = 1e-4  # of outputs, absolute and relative
OTHERWISE = "what the model computes depends on the size of the batch otherwise"
LIMIT = 2**31 - 1  # bytes of a protocol buffer


def export(
    model: Layer,
    path: str | Path,
    *inputs: Any,
    metadata: Mapping[str, Any] | None = None,
    tolerance: float = TOLERANCE,
) -> None:
    """Write the model's inference to `path` as ONNX, for batches of any size.

    `inputs` are an example of what the model takes, arrays with the batch first. The
    file is kept only if ONNX Runtime computes from it what the model does, for batches
    of several sizes, to `tolerance`. Weights of float64 become float32. `metadata` is
    plain data, kept as text.
    """
    given = [np.asarray(backend_of(raw(x)).to_numpy(raw(x))) for x in inputs]
    if not given or any(not x.ndim or not len(x) for x in given):
        raise ConfigError(
            "export: expected an example of each input, an array with the batch first,"
            f" got {[x.shape for x in given]}"
        )
    graph = _graph(model, [[_rows(x, n) for x in given] for n in ROWS])
    data = _file(graph, metadata or {})
    session = _session(data)
    for n in (1, *ROWS, 7):
        _compare(model, session, [_rows(x, n) for x in given], tolerance)
    with replacing(str(path)) as file:
        file.write(data)


def _rows(x: np.ndarray, n: int) -> np.ndarray:
    """Return a batch of n rows like these."""
    return np.ascontiguousarray(x[np.arange(n) % len(x)])


def _graph(model: Layer, batches: Sequence[Sequence[np.ndarray]]) -> Any:
    """Return the graph of what the traces for two sizes of batch have in common."""
    pair = Pair(*(_trace(model, xs) for xs in batches))
    arguments, outputs = pair.one.arguments, pair.one.outputs
    names = _numbered("input", len(arguments)), _numbered("output", len(outputs))
    writer = Writer(names[0][0])
    for i, name in zip(arguments, names[0], strict=True):
        writer.last[i], writer.dtypes[i] = name, pair.one.kinds[i][1]
    _enter_constants(writer, pair, model)
    for call in pair.calls():
        write(writer, call)
    for i, name in zip(outputs, names[1], strict=True):
        node = onnx.helper.make_node("Identity", [writer.value(i)], [name], name=name)
        writer.nodes.append(node)
    return onnx.helper.make_graph(
        writer.nodes,
        "sillar",
        [_info(pair, i, name) for i, name in zip(arguments, names[0], strict=True)],
        [_info(pair, i, name) for i, name in zip(outputs, names[1], strict=True)],
        [tensor(name, array) for name, array in _used(writer).items()],
    )


def _trace(model: Layer, inputs: Sequence[np.ndarray]) -> Trace:
    with Trace() as trace, no_grad():
        tensors = [wrap(x[...]) for x in inputs]
        for x in tensors:
            trace.argument(x.data)
        found = model(*tensors)
        outputs = found if isinstance(found, tuple | list) else (found,)
        trace.outputs = [trace.number(y.data) for y in outputs]
    return trace


class Pair(NamedTuple):
    """Two traces of a model, for batches of ROWS rows."""

    one: Trace
    other: Trace

    def calls(self) -> Iterator[Traced]:
        """Yield the calls, with sizes that go with the batch marked."""
        found = [
            [c for c in trace.live_calls() if c.primitive is not None] for trace in self
        ]
        if [c.primitive for c in found[0]] != [c.primitive for c in found[1]]:
            raise ConfigError(f"export: {OTHERWISE}: other operations")
        for one, other in zip(*found, strict=True):
            yield self._merged(one, other)

    def _merged(self, one: Any, other: Any) -> Traced:
        name = one.primitive.name
        rest = [
            {k: v for k, v in c.static.items() if k != "shape"} for c in (one, other)
        ]
        if one.inputs != other.inputs or rest[0] != rest[1]:
            raise ConfigError(f"export: {OTHERWISE}: other arguments of {name!r}")
        backend = backend_of(self.one.constants.get(one.output, np.zeros(())))
        return Traced(
            name,
            one.inputs,
            one.static,
            one.output,
            tuple(() if isinstance(i, tuple) else self.shape(i) for i in one.inputs),
            self.shape(one.output),
            self.one.kinds[one.output][1],
            partial(one.primitive.forward, backend, **one.static),
        )

    def shape(self, i: int) -> tuple[int, ...]:
        """Return a value's shape, with BATCH or SCALED for sizes that differ."""
        sizes = zip(self.one.kinds[i][0], self.other.kinds[i][0], strict=True)
        return tuple(
            a if a == b else BATCH if (a, b) == ROWS else SCALED for a, b in sizes
        )


def _enter_constants(writer: Writer, pair: Pair, model: Layer) -> None:
    """Tell the writer of parameters, and of what else is there before a call."""
    paths = {id(p.data): path for path, p in model.parameters().items()}
    for i, array in pair.one.constants.items():
        shape, other = pair.shape(i), pair.other.constants[i]
        writer.dtypes[i] = array.dtype
        if BATCH in shape:
            row = array[
                tuple(slice(0, 1) if n == BATCH else slice(None) for n in shape)
            ]
            array, other = (np.broadcast_to(row, a.shape) == a for a in (array, other))
            if array.all() and other.all():
                small = writer.constant(row)
                writer.last[i] = writer.add("Expand", small, writer.sizes(shape))
                continue
        elif np.array_equal(array, other, equal_nan=array.dtype.kind == "f"):
            writer.constants[i] = np.asarray(array)
            writer.titles[i] = paths.get(id(array), "")
            continue
        raise ConfigError(f"export: {OTHERWISE}: another constant of shape {shape}")


def _info(pair: Pair, i: int, name: str) -> Any:
    """Return what a file says of an input or output; its batch is of any size."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(single(pair.one.kinds[i][1]))
    shape = [{BATCH: "batch", SCALED: None}.get(n, n) for n in pair.shape(i)]
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def _used(writer: Writer) -> dict[str, np.ndarray]:
    taken = {name for node in writer.nodes for name in node.input}
    return {name: array for name, array in writer.weights.items() if name in taken}


def _numbered(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}_{k}" for k in range(count)]


def _file(graph: Any, metadata: Mapping[str, Any]) -> bytes:
    model = onnx.helper.make_model(
        graph,
        producer_name="sillar",
        producer_version=sillar.__version__,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    texts = {
        k: v if isinstance(v, str) else json.dumps(v, allow_nan=False)
        for k, v in metadata.items()
    }
    onnx.helper.set_model_props(model, texts)
    if model.ByteSize() > LIMIT:
        raise ConfigError(
            f"export: expected a file of at most {LIMIT:,} bytes, got"
            f" {model.ByteSize():,}: ONNX holds no more in one file"
        )
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _compare(
    model: Layer, session: Any, inputs: Sequence[np.ndarray], tolerance: float
) -> None:
    """Run the file and the model on the same inputs; raise if they differ."""
    names = [i.name for i in session.get_inputs()]
    given = [x.astype(single(x.dtype), copy=False) for x in inputs]
    got = session.run(None, dict(zip(names, given, strict=True)))
    found = model(*inputs)
    expected = found if isinstance(found, tuple | list) else (found,)
    for name, y, z in zip(session.get_outputs(), expected, got, strict=True):
        y = y.numpy()
        if y.shape != z.shape:
            raise ConfigError(f"export: {name.name}: expected {y.shape}, got {z.shape}")
        close = np.isclose(z, y, rtol=tolerance, atol=tolerance, equal_nan=True)
        if not close.all():
            far = np.abs(np.asarray(z, float) - y)[~close].max()
            raise ConfigError(
                f"export: ONNX Runtime's {name.name} is up to {far:.3g} away from the"
                f" model's for {len(inputs[0])} rows, more than {tolerance:g}: nothing"
                " was written"
            )


def _session(data: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise missing("ONNX Runtime", "onnx", "a check of the file") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
