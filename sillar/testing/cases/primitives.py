"""Cases of all primitives: arguments and static parameters to try them on."""

from __future__ import annotations

import numpy as np

from sillar.core import ops
from sillar.core.ops.shape import ARRAY
from sillar.core.tape import place
from sillar.nn import sweep
from sillar.testing.cases.draws import Draws
from sillar.testing.cases.kernels import KERNELS, SWEEPS
from sillar.testing.cases.shapes import EMPTY, ODD

draws = Draws(20)
normal, positive = draws.normal, draws.positive
apart, even = draws.apart, draws.even

PAIRS = {
    "equal": ((2, 3), (2, 3)),
    "vector": ((3, 4), (4,)),
    "outer": ((3, 1), (1, 4)),
    "scalar": ((), (2, 3)),
    "ones": ((1, 3), (2, 1)),
    "single": ((1, 1), (1,)),
    "empty": ((0, 3), (3,)),
    "nothing": ((0, 3), (1, 3)),
}
SHAPES = {"matrix": (2, 3), "scalar": (), "one": (1,), "empty": (0, 3)}

UNARY = {
    ops.negative: normal,
    ops.exp: normal,
    ops.expm1: normal,
    ops.log: positive,
    ops.log1p: positive,
    ops.sqrt: positive,
    ops.sin: normal,
    ops.cos: normal,
    ops.tanh: normal,
    ops.sigmoid: normal,
    ops.softplus: normal,
    ops.erf: normal,
    ops.normal_cdf: normal,
    ops.normal_pdf: normal,
    ops.relu: apart,
    ops.absolute: apart,
}
BINARY = {
    ops.add: (normal, normal),
    ops.subtract: (normal, normal),
    ops.multiply: (normal, normal),
    ops.divide: (normal, positive),
    ops.power: (positive, normal),
    ops.maximum: (apart, even),
    ops.minimum: (apart, even),
}

MASK = np.array([[True, False, True], [False, True, True]])
ROWS = np.array([2, 0, 2])  # 2 comes twice
LABELS = np.array([2, 0, 2, 1])
LABELS2 = np.array([[4, 0], [2, 4]])


# primitive, tensor arguments, static parameters
OTHERS = {
    "power-weak": (ops.power, [positive(4), 3], {}),
    "power-by-1": (ops.power, [normal(4), 1], {}),
    "power-by-0": (ops.power, [normal(4), 0.0], {}),
    "power-of-2": (ops.power, [2.0, normal(4)], {}),
    "power-weak-at-0": (ops.power, [np.zeros(2), 3], {}),
    "maximum-weak": (ops.maximum, [apart(4), 0.0], {}),
    "where": (ops.where, [MASK, normal(2, 3), normal(3)], {}),
    "where-outer": (ops.where, [MASK[0], normal(2, 1), normal(1, 3)], {}),
    "where-weak": (ops.where, [MASK, normal(2, 3), 0.5], {}),
    "where-empty": (ops.where, [MASK[:0], normal(0, 3), normal(3)], {}),
    "reshape": (ops.reshape, [normal(2, 6)], {"shape": (3, -1)}),
    "reshape-scalar": (ops.reshape, [normal(1, 1)], {"shape": ()}),
    "reshape-empty": (ops.reshape, [normal(0, 3)], {"shape": (3, 0)}),
    "transpose": (ops.transpose, [normal(2, 3, 4)], {"axes": (2, 0, 1)}),
    "transpose-from-end": (ops.transpose, [normal(2, 3)], {"axes": (-1, 0)}),
    "transpose-empty": (ops.transpose, [normal(0, 3)], {"axes": (1, 0)}),
    "broadcast_to": (ops.broadcast_to, [normal(3, 1)], {"shape": (2, 3, 4)}),
    "broadcast_to-scalar": (ops.broadcast_to, [normal()], {"shape": (2, 1)}),
    "broadcast_to-empty": (ops.broadcast_to, [normal(1, 3)], {"shape": (0, 3)}),
    "astype": (ops.astype, [normal(2, 3)], {"dtype": "float64"}),
    "place": (place, [normal(2, 3)], {"backend": "numpy"}),
    "place-scalar": (place, [normal()], {"backend": "numpy"}),
    "place-empty": (place, [normal(0, 3)], {"backend": "numpy"}),
    "concat": (ops.concat, [normal(2, 3), normal(1, 3), normal(0, 3)], {"axis": 0}),
    "concat-last": (ops.concat, [normal(2, 3), normal(2, 1)], {"axis": -1}),
    "pack": (ops.pack, [normal(2, 3), normal(), normal(0, 3)], {}),
    "concat-one": (ops.concat, [normal(2, 3)], {}),
    "pad": (ops.pad, [normal(2, 3)], {"widths": ((1, 0), (2, 1)), "value": 0.5}),
    "pad-nothing": (ops.pad, [normal(2, 3)], {"widths": ((0, 0), (0, 0))}),
    "pad-empty": (ops.pad, [normal(0, 3)], {"widths": ((0, 1), (0, 0))}),
    "getitem": (
        ops.getitem,
        [normal(4, 3, 5)],
        {"template": (1, slice(None, None, -1), None, slice(1, 5, 2))},
    ),
    "getitem-ellipsis": (ops.getitem, [normal(2, 3)], {"template": (Ellipsis, 0)}),
    "getitem-rows": (ops.getitem, [normal(4, 3), ROWS], {"template": (ARRAY,)}),
    "getitem-cells": (
        ops.getitem,
        [normal(4, 3), ROWS, np.array([0, 1, 0])],
        {"template": (ARRAY, ARRAY)},
    ),
    "getitem-mask": (ops.getitem, [normal(2, 3), MASK], {"template": (ARRAY,)}),
    "getitem-empty": (ops.getitem, [normal(4, 3), ROWS[:0]], {"template": (ARRAY,)}),
    "scatter_add": (
        ops.scatter_add,
        [normal(3, 2), ROWS],
        {"template": (ARRAY,), "shape": (4, 2)},
    ),
    "scatter_add-slice": (
        ops.scatter_add,
        [normal(2, 2)],
        {"template": (slice(0, 4, 2),), "shape": (4, 2)},
    ),
    "scatter_add-empty": (
        ops.scatter_add,
        [normal(0, 2), ROWS[:0]],
        {"template": (ARRAY,), "shape": (4, 2)},
    ),
    "sum": (ops.sum_, [normal(2, 3)], {}),
    "sum-last": (ops.sum_, [normal(2, 3, 4)], {"axis": -1, "keepdims": True}),
    "sum-axes": (ops.sum_, [normal(2, 3, 4)], {"axis": (0, 2)}),
    "sum-no-axes": (ops.sum_, [normal(2, 3)], {"axis": ()}),
    "sum-empty": (ops.sum_, [normal(0, 3)], {"axis": 0}),
    "sum-scalar": (ops.sum_, [normal()], {}),
    "max": (ops.max_, [apart(2, 3)], {}),
    "max-first": (ops.max_, [apart(2, 3)], {"axis": 0}),
    "max-axes": (ops.max_, [apart(2, 3, 4)], {"axis": (0, 2), "keepdims": True}),
    "max-one": (ops.max_, [apart(2, 1)], {"axis": 1}),
    "max-empty": (ops.max_, [apart(0, 3)], {"axis": 1}),
    "min": (ops.min_, [apart(2, 3)], {}),
    "min-first": (ops.min_, [apart(2, 3)], {"axis": 0}),
    "min-axes": (ops.min_, [apart(2, 3, 4)], {"axis": (0, 2), "keepdims": True}),
    "min-one": (ops.min_, [apart(2, 1)], {"axis": 1}),
    "min-empty": (ops.min_, [apart(0, 3)], {"axis": 1}),
    "logsumexp": (ops.logsumexp, [normal(2, 3)], {}),
    "logsumexp-first": (ops.logsumexp, [normal(2, 3)], {"axis": 0, "keepdims": True}),
    "logsumexp-one": (ops.logsumexp, [normal(2, 1)], {"axis": 1}),
    "logsumexp-empty": (ops.logsumexp, [normal(0, 3)], {"axis": 1}),
    "cross_entropy": (ops.cross_entropy, [normal(4, 3), LABELS], {}),
    "cross_entropy-more-axes": (ops.cross_entropy, [normal(2, 2, 5), LABELS2], {}),
    "cross_entropy-wide": (ops.cross_entropy, [normal(4, 60), LABELS], {}),
    "cross_entropy-one": (ops.cross_entropy, [normal(4, 1), LABELS * 0], {}),
    "cross_entropy-empty": (ops.cross_entropy, [normal(0, 3), LABELS[:0]], {}),
    "cross_entropy_input": (
        ops.cross_entropy_input,
        [normal(4), normal(4, 3), LABELS],
        {},
    ),
    "cross_entropy_input-weak": (
        ops.cross_entropy_input,
        [0.5, normal(2, 2, 5), LABELS2],
        {},
    ),
    "cross_entropy_input-empty": (
        ops.cross_entropy_input,
        [normal(0), normal(0, 3), LABELS[:0]],
        {},
    ),
    "cumsum": (ops.cumsum, [normal(2, 3)], {"axis": 1}),
    "cumsum-first": (ops.cumsum, [normal(2, 3)], {}),
    "cumsum-from-end": (ops.cumsum, [normal(2, 3, 2)], {"axis": -2}),
    "cumsum-empty": (ops.cumsum, [normal(0, 3)], {}),
    "matmul": (ops.matmul, [normal(2, 3), normal(3, 4)], {}),
    "matmul-stacks": (ops.matmul, [normal(5, 2, 3), normal(5, 3, 1)], {}),
    "matmul-broadcast": (ops.matmul, [normal(4, 1, 2, 3), normal(5, 3, 2)], {}),
    "matmul-no-rows": (ops.matmul, [normal(0, 3), normal(3, 4)], {}),
    "matmul-no-terms": (ops.matmul, [normal(2, 0), normal(0, 4)], {}),
    "einsum": (ops.einsum_, [normal(2, 3), normal(3, 4)], {"subscripts": "ij,jk->ki"}),
    "einsum-one": (ops.einsum_, [normal(2, 3, 4)], {"subscripts": "ijk->j"}),
    "einsum-three": (
        ops.einsum_,
        [normal(2, 3), normal(3), normal(2, 4)],
        {"subscripts": "ij,j,ik->k"},
    ),
    "einsum-outer": (ops.einsum_, [normal(2), normal(3)], {"subscripts": "i,j->"}),
    "einsum-empty": (
        ops.einsum_,
        [normal(0, 3), normal(3)],
        {"subscripts": "ij,j->i"},
    ),
}

WITHOUT_GRADIENT = {
    ops.argmax: "an index",
    ops.sign: "constant between its jumps",
    ops.greater: "a comparison",
    ops.greater_equal: "a comparison",
    ops.less: "a comparison",
    ops.less_equal: "a comparison",
    ops.equal: "a comparison",
    ops.not_equal: "a comparison",
    ops.random_uniform: "a draw; its argument is a key of whole numbers",
    ops.random_normal: "a draw; its argument is a key of whole numbers",
    sweep.recurrent_keep: "memory of `recurrent`, whose gradient includes it",
    sweep.recurrent_slopes: "memory of the gradients of `recurrent`",
}
KEY = np.array([1, 2], "uint64")

CASES = (
    {
        f"{op.name}-{name}": (op, [make(*shape)], {})
        for op, make in UNARY.items()
        for name, shape in SHAPES.items()
    }
    | {
        f"{op.name}-{name}": (op, [left(*a), right(*b)], {})
        for op, (left, right) in BINARY.items()
        for name, (a, b) in PAIRS.items()
    }
    | OTHERS
    | KERNELS
    | SWEEPS
    | ODD
    | EMPTY
)
CONSTANT = {
    op.name: (op, [apart(3, 4), even(4)], {}) for op in list(WITHOUT_GRADIENT)[2:8]
} | {
    "argmax": (ops.argmax, [apart(2, 3)], {"axis": 1}),
    "sign": (ops.sign, [apart(2, 3)], {}),
    "random_uniform": (ops.random_uniform, [KEY], {"shape": (3,), "dtype": "float32"}),
    "random_normal": (ops.random_normal, [KEY], {"shape": (3,), "dtype": "float32"}),
}
