"""Convolution, pooling, recurrent sweeps and attention in ONNX."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sillar.interop.onnx.nodes import form
from sillar.interop.onnx.writer import Traced, Writer


def _window(window: Any) -> dict[str, list[int]]:
    (top, bottom), (left, right) = window.padding
    return {"strides": [*window.stride], "pads": [top, left, bottom, right]}


def _kernel(writer: Writer, i: int) -> str:
    """Return the name of weights (kh, kw, c, o) as (o, c, kh, kw)."""
    if i in writer.constants:
        turned = writer.constants[i].transpose(3, 2, 0, 1)
        return writer.constant(turned, title=writer.titles.get(i, ""))
    return writer.add("Transpose", writer.value(i), perm=(3, 2, 0, 1))


@form("conv")
def conv(writer: Writer, call: Traced) -> None:
    """Write a convolution, channels first."""
    x, w = call.inputs
    window = call.static["window"]
    writer.first[call.output] = writer.add(
        *("Conv", writer.channels_first(x), _kernel(writer, w)),
        **_window(window),
        kernel_shape=[*window.kernel],
        dilations=[*window.dilation],
        group=call.static.get("groups", 1),
    )


@form("conv_input")
def conv_input(writer: Writer, call: Traced) -> None:
    """Write a transposed convolution; what its shape leaves open is padding."""
    g, w = call.inputs
    window, size = call.static["window"], call.static["size"]
    covered = window.cover(call.shapes[0][1:3])
    open_ = [size[k] + sum(window.padding[k]) - covered[k] for k in (0, 1)]
    writer.first[call.output] = writer.add(
        *("ConvTranspose", writer.channels_first(g), _kernel(writer, w)),
        **_window(window),
        kernel_shape=[*window.kernel],
        dilations=[*window.dilation],
        group=call.static.get("groups", 1),
        output_padding=open_,
    )


@form("max_pool")
def max_pool(writer: Writer, call: Traced) -> None:
    """Write the largest values of windows, channels first."""
    window = call.static["window"]
    writer.first[call.output] = writer.add(
        *("MaxPool", writer.channels_first(call.inputs[0])),
        **_window(window),
        kernel_shape=[*window.kernel],
        dilations=[*window.dilation],
    )


@form("sum_pool")
def sum_pool(writer: Writer, call: Traced) -> None:
    """Write a mean with its padding counted, times the size of the window."""
    window = call.static["window"]
    mean = writer.add(
        *("AveragePool", writer.channels_first(call.inputs[0])),
        **_window(window),
        kernel_shape=[*window.kernel],
        count_include_pad=1,
    )
    size = writer.constant(math.prod(window.kernel), call.dtype)
    writer.first[call.output] = writer.add("Mul", mean, size)


@form("recurrent_keep")
def recurrent_keep(writer: Writer, call: Traced) -> None:
    """Write nothing: what a sweep keeps is for gradients."""


ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}  # i f g o to i o f c, r z n to z r h


@form("recurrent")
def recurrent(writer: Writer, call: Traced) -> str:
    """Write a sweep over x (time, n_in, batch): (time, hidden, batch), or the last."""
    cell, order = call.static["cell"], ORDER[call.static["cell"]]
    w = writer.known(call.inputs[1], cell)
    gates = len(order)
    n_in, hidden = call.shapes[0][1], w.shape[1] // gates
    turned = w.T.reshape(gates, hidden, -1)[[*order]].reshape(gates * hidden, -1)
    biases = np.concatenate([turned[:, n_in], turned[:, n_in + 1]])
    x = writer.add("Transpose", writer.value(call.inputs[0]), perm=(0, 2, 1))
    parts = (turned[:, :n_in], turned[:, n_in + 2 :], biases)
    names = [writer.constant(part[None]) for part in parts]
    more = {"linear_before_reset": 1} if cell == "gru" else {}
    y = writer.add(cell.upper(), x, *names, hidden_size=hidden, **more)
    y = writer.add("Squeeze", y, writer.integers([1]))  # one direction
    y = writer.add("Transpose", y, perm=(0, 2, 1))
    if call.static["last"]:
        return writer.add("Gather", y, writer.integers([-1]), axis=0)
    return y


@form("attention")
def attention(writer: Writer, call: Traced) -> str:
    """Write softmax(q k^T / sqrt(d)) v of each head; one that sees nothing gives 0."""
    _, n, wide = call.shapes[0]
    heads = call.static["heads"]
    size = wide // (3 * heads)
    parts = writer.integers([0, n, 3, heads, size])
    split = writer.add("Reshape", writer.value(call.inputs[0]), parts)
    q, k, v = (
        writer.add("Gather", split, writer.integer(place), axis=2) for place in range(3)
    )
    q = writer.add("Transpose", q, perm=(0, 2, 1, 3))
    k = writer.add("Transpose", k, perm=(0, 2, 3, 1))
    v = writer.add("Transpose", v, perm=(0, 2, 1, 3))
    scale = writer.constant(1 / math.sqrt(size), call.dtype)
    scores = writer.add("MatMul", writer.add("Mul", q, scale), k)
    shares = _shares(writer, scores, _seen(writer, call, n), call.dtype)
    y = writer.add("Transpose", writer.add("MatMul", shares, v), perm=(0, 2, 1, 3))
    return writer.add("Reshape", y, writer.integers([0, n, heads * size]))


def _seen(writer: Writer, call: Traced, n: int) -> str | None:
    allowed = call.inputs[1]
    names = [] if isinstance(allowed, tuple) else [writer.value(allowed, np.bool_)]
    if call.static["causal"]:
        names.append(writer.constant(np.tri(n, dtype=bool)))
    if not names:
        return None
    return names[0] if len(names) == 1 else writer.add("And", *names)


def _shares(writer: Writer, scores: str, seen: str | None, dtype: Any) -> str:
    if seen is None:
        return writer.add("Softmax", scores, axis=-1)
    low, zero = writer.constant(-1e30, dtype), writer.constant(0, dtype)
    shares = writer.add("Softmax", writer.add("Where", seen, scores, low), axis=-1)
    return writer.add("Where", seen, shares, zero)
