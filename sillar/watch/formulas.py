"""The formula of each primitive, and the one of its gradient for each argument.

They are written as one writes NumPy: `g` is the gradient at the result `y`. Where an
argument was broadcast, its gradient is summed back. What NumPy has no word for stands
in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sillar.core.tape import Primitive


class Formula(NamedTuple):
    """y as a function of named arguments, and the gradient for each of them.

    The last gradient is also that of all further arguments.
    """

    arguments: tuple[str, ...]
    value: str
    gradients: tuple[str, ...] = ()

    def gradient(self, place: int) -> str:
        """Return the gradient for one argument."""
        return self.gradients[min(place, len(self.gradients) - 1)]

    def argument(self, place: int) -> str:
        """Return the name of one argument, as x or, of many, x3."""
        if place < len(self.arguments) and not self.arguments[place].startswith("*"):
            return self.arguments[place]
        many = self.arguments[-1].removeprefix("*")
        return f"{many}{place - len(self.arguments) + 2}"


def _of(arguments: str, value: str, *gradients: str) -> Formula:
    return Formula(tuple(arguments.split()), value, gradients)


ELEMENTWISE = {
    "add": _of("a b", "a + b", "g", "g"),
    "subtract": _of("a b", "a - b", "g", "-g"),
    "multiply": _of("a b", "a * b", "g * b", "g * a"),
    "divide": _of("a b", "a / b", "g / b", "-g * y / b"),
    "negative": _of("x", "-x", "-g"),
    "power": _of(
        "x exponent",
        "x ** exponent",
        "g * exponent * x ** (exponent - 1)",
        "g * y * log(x)",
    ),
    "exp": _of("x", "exp(x)", "g * y"),
    "expm1": _of("x", "exp(x) - 1", "g * (y + 1)"),
    "log": _of("x", "log(x)", "g / x"),
    "log1p": _of("x", "log(1 + x)", "g / (1 + x)"),
    "sqrt": _of("x", "sqrt(x)", "g / (2 * y)"),
    "sin": _of("x", "sin(x)", "g * cos(x)"),
    "cos": _of("x", "cos(x)", "-g * sin(x)"),
    "tanh": _of("x", "tanh(x)", "g * (1 - y ** 2)"),
    "sigmoid": _of("x", "1 / (1 + exp(-x))", "g * y * (1 - y)"),
    "softplus": _of("x", "log(1 + exp(x))", "g / (1 + exp(-x))"),
    "erf": _of("x", "erf(x)", "g * 2 / sqrt(pi) * exp(-x ** 2)"),
    "normal_cdf": _of(
        "x", "(1 + erf(x / sqrt(2))) / 2", "g * exp(-x ** 2 / 2) / sqrt(2 * pi)"
    ),
    "normal_pdf": _of("x", "exp(-x ** 2 / 2) / sqrt(2 * pi)", "-g * x * y"),
    "relu": _of("x", "maximum(x, 0)", "g * (x > 0)"),
    "absolute": _of("x", "abs(x)", "g * sign(x)"),
    "maximum": _of("a b", "maximum(a, b)", "g * (a > b)", "g * (b > a)"),
    "minimum": _of("a b", "minimum(a, b)", "g * (a < b)", "g * (b < a)"),
    "where": _of(
        "condition a b",
        "where(condition, a, b)",
        "0",
        "where(condition, g, 0)",
        "where(condition, 0, g)",
    ),
    "greater": _of("a b", "a > b"),
    "greater_equal": _of("a b", "a >= b"),
    "less": _of("a b", "a < b"),
    "less_equal": _of("a b", "a <= b"),
    "equal": _of("a b", "a == b"),
    "not_equal": _of("a b", "a != b"),
    "sign": _of("x", "sign(x)"),
}
SHAPES = {
    "reshape": _of("x", "x in another shape", "g in the shape of x"),
    "transpose": _of("x", "x with its axes in another order", "g with them back"),
    "broadcast_to": _of("x", "x repeated", "g summed over what was repeated"),
    "over_shares": _of("x", "the sum of x over all shares", "that of g"),
    "place": _of("x", "x on another back end", "g on the back end of x"),
    "astype": _of("x", "x as another type", "g as the type of x"),
    "concat": _of("*x", "all x joined along an axis", "the part of g that was x"),
    "pack": _of("*x", "the elements of all x", "the part of g that was x"),
    "pad": _of("x", "x with a border", "g without the border"),
    "getitem": _of("x *index", "x[index]", "zeros, with g added at index"),
    "scatter_add": _of("values *index", "zeros, values added at index", "g[index]"),
}
SUMS = {
    "sum": _of("x", "sum(x)", "g repeated along what was summed"),
    "max": _of("x", "max(x)", "g where x is largest, shared by equals"),
    "min": _of("x", "min(x)", "g where x is smallest, shared by equals"),
    "argmax": _of("x", "the place of the largest x"),
    "logsumexp": _of("x", "log(sum(exp(x)))", "g * exp(x - y), the softmax"),
    "cumsum": _of("x", "running sums of x", "running sums of g from the end"),
    "cross_entropy": _of(
        "x labels",
        "log(sum(exp(x))) - x[label]",
        "g * (softmax(x) - one_hot(labels))",
    ),
    "cross_entropy_input": _of(
        "g' x labels",
        "g' * (softmax(x) - one_hot(labels))",
        "sum(g * (softmax(x) - one_hot(labels)))",
        "g' * p * (g - sum(p * g)), p = softmax(x)",
    ),
    "matmul": _of("a b", "a @ b", "g @ b.T", "a.T @ g"),
    "attention": _of(
        "qkv mask",
        "softmax(q @ k.T / sqrt(d)) @ v of each head, qkv = q, k, v side by side",
        "g @ v.T through the softmax to q and k, p.T @ g to v, p = softmax",
    ),
    "attention_slope": _of("g' qkv mask", "the gradient of attention", "its own rule"),
    "einsum": _of("*x", "the Einstein sum of all x", "that of g and the other x"),
}
IMAGES = {
    "conv": _of("x w", "x * w, correlated", "g * w, spread", "x * g, correlated"),
    "conv_input": _of("g' w", "g' * w, spread", "g * w, correlated", "g * g'"),
    "conv_weight": _of("x g'", "x * g', correlated", "g' * g, spread", "x * g"),
    "max_pool": _of("x", "the largest of each window", "g where x was largest"),
    "max_pool_at": _of("v x", "v where x is largest", "g where x was largest"),
    "max_unpool": _of("g' x", "g' where x is largest", "g where x is largest"),
    "sum_pool": _of("x", "the sum of each window", "g at each cell of its window"),
    "sum_unpool": _of("g'", "g' at each cell of its window", "sums of windows of g"),
}
NORMALISED = {
    "channel_squares": _of(
        "x centre",
        "sum((x - centre) ** 2) by channels",
        "2 * g * (x - centre)",
        "-2 * g * sum(x - centre)",
    ),
    "batch_norm": _of(
        "x weight bias *statistics",
        "z * weight + bias, z = (x - mean) / s, s = sqrt(variance + eps)",
        "weight / s * (g - mean(g) - z * mean(g * z))",
        "sum(g * z)",
        "sum(g)",
        "0, that of x includes it",
    ),
    "batch_norm_input": _of(
        "g' x weight *saved", "the gradient of batch_norm for x", "its own rule"
    ),
    "batch_norm_weight": _of(
        "g' x weight *saved", "the gradient of batch_norm for weight", "its own rule"
    ),
}
SWEEPS = {
    "recurrent_keep": _of("x w", "what a sweep over time keeps for its gradients"),
    "recurrent": _of(
        "x w kept",
        "the outputs of an LSTM or a GRU over x (time, features, batch)",
        "W_ih.T slopes",
        "sum over time of slopes (x, 1, 1, h).T",
        "0, that of x and w includes it",
    ),
    "recurrent_slopes": _of("g' x w kept", "derivatives before the nonlinearities"),
    "recurrent_input": _of(
        "g' x w *known", "the gradient of recurrent for x", "its own rule"
    ),
    "recurrent_weight": _of(
        "g' x w *known", "the gradient of recurrent for w", "its own rule"
    ),
}
DRAWN = {
    "random_uniform": _of("key", "numbers drawn from [0, 1)"),
    "random_normal": _of("key", "numbers drawn from N(0, 1)"),
}
FORMULAS: Mapping[str, Formula] = {
    **ELEMENTWISE,
    **SHAPES,
    **SUMS,
    **IMAGES,
    **NORMALISED,
    **SWEEPS,
    **DRAWN,
}


def formula_of(primitive: Any) -> Formula:
    """Return the formula of a primitive; of a user's, what its docstring says."""
    if type(primitive) is not Primitive:
        return Formula(("*x",), f"{primitive.name}(x1, ...)", ("its own backward",))
    ours = str(getattr(primitive.forward, "__module__", "")).startswith("sillar.")
    if ours and primitive.name in FORMULAS:
        return FORMULAS[primitive.name]
    code = primitive.forward.__code__
    names = code.co_varnames[1 : code.co_argcount] or ("*x",)
    said = (primitive.__doc__ or primitive.name).strip().partition("\n")[0].rstrip(".")
    return Formula(names, said.removeprefix("Return "), ("its own rule",))
