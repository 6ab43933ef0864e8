"""What each node of an ONNX file computes, in Sillar's operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sillar.backends import Window
from sillar.core import functional as f
from sillar.core import ops
from sillar.core.ops.linalg import einsum
from sillar.core.tensor import Tensor
from sillar.errors import FormatError
from sillar.interop.onnx.writer import FIRST, LAST
from sillar.nn.sweep import recurrent

Attributes = Mapping[str, Any]
Operation = Callable[..., Any]

PLAIN: dict[str, Operation] = {
    **{"Add": ops.add, "Sub": ops.subtract, "Mul": ops.multiply, "Div": ops.divide},
    **{"Pow": ops.power, "Where": ops.where, "MatMul": ops.matmul},
    **{"Greater": ops.greater, "GreaterOrEqual": ops.greater_equal},
    **{"Less": ops.less, "LessOrEqual": ops.less_equal, "Equal": ops.equal},
    **{"Exp": ops.exp, "Log": ops.log, "Sqrt": ops.sqrt, "Erf": ops.erf},
    **{"Tanh": ops.tanh, "Sigmoid": ops.sigmoid, "Relu": ops.relu},
    **{"Softplus": ops.softplus, "Abs": ops.absolute, "Neg": ops.negative},
    **{"Sign": ops.sign, "Sin": ops.sin, "Cos": ops.cos, "Identity": lambda x: x},
    "Not": lambda x: ops.equal(x, False),
    **{"And": ops.multiply, "Or": ops.add},  # of truths
    "Max": lambda *xs: _folded(ops.maximum, xs),
    "Min": lambda *xs: _folded(ops.minimum, xs),
}
WITH: dict[str, Operation] = {}  # those that take attributes, as the first argument


def operation(*names: str) -> Callable[[Operation], Operation]:
    """Enter a function as what nodes of these names do."""

    def enter(function: Operation) -> Operation:
        WITH.update(dict.fromkeys(names, function))
        return function

    return enter


def _folded(function: Operation, xs: Sequence[Any]) -> Any:
    found = xs[0]
    for x in xs[1:]:
        found = function(found, x)
    return found


def numbers(x: Any) -> tuple[int, ...]:
    """Return a constant vector of whole numbers; values of a replay are none."""
    if not isinstance(x, np.ndarray):
        raise FormatError(
            "ONNX: expected sizes and axes that do not depend on the input's values"
        )
    return tuple(int(n) for n in x.reshape(-1))


@operation("Reshape")
def _reshape(a: Attributes, x: Any, shape: Any) -> Any:
    wanted = [
        x.shape[k] if n == 0 and not a.get("allowzero") else n
        for k, n in enumerate(numbers(shape))
    ]
    return x.reshape(*wanted)


@operation("Flatten")
def _flatten(a: Attributes, x: Any) -> Any:
    axis = a.get("axis", 1) % (x.ndim + 1)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operation("Transpose")
def _transpose(a: Attributes, x: Any) -> Any:
    return x.transpose(*a.get("perm", range(x.ndim)[::-1]))


@operation("Expand")
def _expand(a: Attributes, x: Any, shape: Any) -> Any:
    return ops.broadcast_to(x, shape=np.broadcast_shapes(x.shape, numbers(shape)))


@operation("Concat")
def _concat(a: Attributes, *xs: Any) -> Any:
    if all(isinstance(x, np.ndarray) for x in xs):
        return np.concatenate(xs, a["axis"])
    return ops.concat(*xs, axis=a["axis"])


@operation("Squeeze")
def _squeeze(a: Attributes, x: Any, axes: Any = None) -> Any:
    wanted = [k for k, n in enumerate(x.shape) if n == 1]
    if axes is not None:
        wanted = [k % x.ndim for k in numbers(axes)]
    if any(x.shape[k] != 1 for k in wanted):
        raise FormatError(
            f"ONNX: Squeeze: axes {wanted} of {x.shape} are not of size 1"
        )
    return x.reshape(*(n for k, n in enumerate(x.shape) if k not in wanted))


@operation("Unsqueeze")
def _unsqueeze(a: Attributes, x: Any, axes: Any) -> Any:
    rank = x.ndim + len(numbers(axes))
    new = {k % rank for k in numbers(axes)}
    sizes = iter(x.shape)
    return x.reshape(*(1 if k in new else next(sizes) for k in range(rank)))


@operation("Shape")
def _shape(a: Attributes, x: Any) -> np.ndarray:
    return np.array(x.shape[a.get("start", 0) : a.get("end")], np.int64)


@operation("Gather")
def _gather(a: Attributes, x: Any, rows: Any) -> Any:
    axis = a.get("axis", 0) % max(1, x.ndim)
    if isinstance(x, np.ndarray) and isinstance(rows, np.ndarray):
        return np.take(x, rows, axis)
    if isinstance(rows, np.ndarray) and not rows.ndim:
        return x[(slice(None),) * axis + (int(rows),)]
    if axis:
        order = [axis, *(k for k in range(x.ndim) if k != axis)]
        found = x.transpose(*order)[rows]
        ahead = found.ndim - x.ndim + 1
        back = [*range(ahead, ahead + axis), *range(ahead)]
        return found.transpose(*back, *range(ahead + axis, found.ndim))
    return x[rows]


@operation("Slice")
def _slice(
    a: Attributes, x: Any, starts: Any, stops: Any, axes: Any = None, steps: Any = None
) -> Any:
    n = len(numbers(starts))
    places = range(n) if axes is None else numbers(axes)
    strides = (1,) * n if steps is None else numbers(steps)
    index = [slice(None)] * x.ndim
    cuts = zip(places, numbers(starts), numbers(stops), strides, strict=True)
    for axis, start, stop, step in cuts:
        low = stop < -x.shape[axis] and step < 0
        index[axis] = slice(start, None if low else stop, step)
    return x[tuple(index)]


@operation("Pad")
def _pad(a: Attributes, x: Any, pads: Any, value: Any = None, axes: Any = None) -> Any:
    if a.get("mode", "constant") != "constant" or axes is not None:
        raise FormatError("ONNX: Pad: expected a constant around all axes")
    sides, n = numbers(pads), x.ndim
    widths = tuple((sides[k], sides[k + n]) for k in range(n))
    return ops.pad(x, widths=widths, value=0.0 if value is None else float(value))


@operation("Cast")
def _cast(a: Attributes, x: Any) -> Any:
    from onnx import helper

    return x.astype(helper.tensor_dtype_to_np_dtype(a["to"]).name)


@operation("ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean")
def _reduce(a: Attributes, x: Any, axes: Any = None) -> Any:
    chosen = a.get("axes") if axes is None else numbers(axes)
    if not chosen and a.get("noop_with_empty_axes"):
        return x
    names = {"ReduceSum": "sum", "ReduceMax": "max", "ReduceMin": "min"}
    function = getattr(x, names.get(a["op"], "mean"))
    keep = bool(a.get("keepdims", 1))
    return function(axis=tuple(chosen) if chosen else None, keepdims=keep)


@operation("ArgMax")
def _argmax(a: Attributes, x: Any) -> Any:
    axis = a.get("axis", 0) % x.ndim
    found = ops.argmax(x, axis=axis)
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    return found.reshape(*shape) if a.get("keepdims", 1) else found


@operation("CumSum")
def _cumsum(a: Attributes, x: Any, axis: Any) -> Any:
    if a.get("exclusive") or a.get("reverse"):
        raise FormatError("ONNX: CumSum: expected neither exclusive nor reverse")
    return ops.cumsum(x, axis=numbers(axis)[0] % x.ndim)


@operation("Einsum")
def _einsum(a: Attributes, *xs: Any) -> Any:
    return einsum(a["equation"], *xs)


@operation("Softmax")
def _softmax(a: Attributes, x: Any) -> Any:
    return f.softmax(x, axis=a.get("axis", -1))


@operation("LogSoftmax")
def _log_softmax(a: Attributes, x: Any) -> Any:
    return f.log_softmax(x, axis=a.get("axis", -1))


@operation("LeakyRelu")
def _leaky(a: Attributes, x: Any) -> Any:
    return f.leaky_relu(x, a.get("alpha", 0.01))


@operation("Elu")
def _elu(a: Attributes, x: Any) -> Any:
    return f.elu(x, a.get("alpha", 1.0))


@operation("Dropout")
def _dropout(a: Attributes, x: Any, *rest: Any) -> Any:
    return x


@operation("Gemm")
def _gemm(a: Attributes, x: Any, w: Any, bias: Any = None) -> Any:
    x = x.transpose(1, 0) if a.get("transA") else x
    y = (x @ (w.transpose(1, 0) if a.get("transB") else w)) * a.get("alpha", 1.0)
    return y if bias is None else y + bias * a.get("beta", 1.0)


@operation("BatchNormalization")
def _batch_norm(
    a: Attributes, x: Any, scale: Any, shift: Any, mean: Any, var: Any
) -> Any:
    def column(v: Any) -> Any:
        return v.reshape(-1, *(1,) * (x.ndim - 2))

    spread = ops.sqrt(column(var) + a.get("epsilon", 1e-5))
    return (x - column(mean)) / spread * column(scale) + column(shift)


@operation("GlobalAveragePool")
def _global_mean(a: Attributes, x: Any) -> Any:
    return x.mean(axis=tuple(range(2, x.ndim)), keepdims=True)


def _window(a: Attributes, kernel: Sequence[int]) -> Window:
    if a.get("auto_pad", "NOTSET") != "NOTSET" or a.get("ceil_mode"):
        raise FormatError(f"ONNX: {a['op']}: expected explicit pads, and sizes cut off")
    if len(kernel) != 2:
        raise FormatError(f"ONNX: {a['op']}: expected images, got kernels {kernel}")
    pads = a.get("pads", (0, 0, 0, 0))
    return Window(
        (kernel[0], kernel[1]),
        tuple(a.get("strides", (1, 1))),  # type: ignore[arg-type]
        ((pads[0], pads[2]), (pads[1], pads[3])),
        tuple(a.get("dilations", (1, 1))),  # type: ignore[arg-type]
    )


def _images(x: Any) -> Any:
    return x.transpose(*LAST)


@operation("Conv")
def _conv(a: Attributes, x: Any, w: Any, bias: Any = None) -> Any:
    window = _window(a, w.shape[2:])
    kernel = w.transpose(2, 3, 1, 0)
    y = ops.conv(_images(x), kernel, window=window, groups=a.get("group", 1))
    return (y if bias is None else y + bias).transpose(*FIRST)


@operation("ConvTranspose")
def _conv_transpose(a: Attributes, x: Any, w: Any, bias: Any = None) -> Any:
    window, g = _window(a, w.shape[2:]), _images(x)
    covered, more = window.cover(g.shape[1:3]), a.get("output_padding", (0, 0))
    size = tuple(covered[k] - sum(window.padding[k]) + more[k] for k in (0, 1))
    kernel = w.transpose(2, 3, 1, 0)
    given = {"size": size, "window": window, "groups": a.get("group", 1)}
    y = ops.conv_input(g, kernel, **given)
    return (y if bias is None else y + bias).transpose(*FIRST)


@operation("MaxPool")
def _max_pool(a: Attributes, x: Any) -> Any:
    window = _window(a, a["kernel_shape"])
    low = -math.inf
    images = ops.pad(_images(x), widths=((0, 0), *window.padding, (0, 0)), value=low)
    bare = window._replace(padding=((0, 0), (0, 0)))
    return ops.max_pool(images, window=bare).transpose(*FIRST)


@operation("AveragePool")
def _mean_pool(a: Attributes, x: Any) -> Any:
    window = _window(a, a["kernel_shape"])
    if any(map(any, window.padding)) and not a.get("count_include_pad"):
        raise FormatError("ONNX: AveragePool: expected count_include_pad with pads")
    total = ops.sum_pool(_images(x), window=window)
    return (total * (1 / math.prod(window.kernel))).transpose(*FIRST)


ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}  # i o f c to i f g o, z r h to r z n


@operation("LSTM", "GRU")
def _sweep(a: Attributes, x: Any, w: Any, r: Any, bias: Any = None, *rest: Any) -> Any:
    cell, order = a["op"], ORDER[a["op"]]
    plain = a.get("direction", "forward") == "forward" and not any(
        part is not None for part in rest
    )
    if not plain or (cell == "GRU" and not a.get("linear_before_reset")):
        raise FormatError(
            f"ONNX: {cell}: expected one direction, a state of zeros, and for GRU"
            " linear_before_reset=1"
        )
    hidden, gates = r.shape[2], len(order)

    def rows(part: Any) -> Any:
        cut = part.reshape(gates, hidden, -1)
        return ops.concat(*(cut[k] for k in order)).transpose(1, 0)

    if bias is None:
        bias = np.zeros((1, 2 * gates * hidden), "float32")
    half = gates * hidden
    parts = [w[0], bias[0][:half], bias[0][half:], r[0]]
    weights = ops.concat(*map(rows, parts))
    y = recurrent(x.transpose(0, 2, 1), weights, cell=cell.lower())
    y = y.transpose(0, 2, 1)
    return y.reshape(y.shape[0], 1, *y.shape[1:])


OPERATIONS = frozenset((*PLAIN, *WITH))


def run(op: str, attributes: Attributes, inputs: Sequence[Any]) -> Any:
    """Return the output of a node."""
    if op in PLAIN:
        if all(isinstance(x, np.ndarray) for x in inputs):  # sizes, known ahead
            return np.asarray(PLAIN[op](*map(Tensor, inputs)).data)
        return PLAIN[op](*inputs)
    return WITH[op](attributes, *inputs)
