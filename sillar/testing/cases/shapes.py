"""Cases of odd shapes: axes of size 1 and of none, where the other tables have none."""

from __future__ import annotations

import numpy as np

from sillar.backends import Window
from sillar.core import normalization, ops
from sillar.core.ops.shape import ARRAY
from sillar.testing.cases.draws import Draws
from sillar.testing.cases.kernels import (
    batch_norm,
    batch_norm_input,
    batch_norm_weight,
)

draws = Draws(22)
normal, apart = draws.normal, draws.apart
PAIR = Window((2, 2))
CELL = Window((1, 1))
NONE = np.zeros(0, "int64")

# primitive, tensor arguments, static parameters
ODD = {
    "astype-one": (ops.astype, [normal(1)], {"dtype": "float64"}),
    "batch_norm_input-one": (
        batch_norm_input,
        [normal(3, 1), normal(3, 1), normal(1)],
        {"eps": 0.1},
    ),
    "batch_norm_weight-one": (
        batch_norm_weight,
        [normal(3, 1), normal(3, 1), normal(1)],
        {"eps": 0.1},
    ),
    "channel_squares-one": (
        normalization.channel_squares,
        [normal(1, 1), normal(1)],
        {},
    ),
    "conv-one": (ops.conv, [normal(1, 1, 1, 1), normal(1, 1, 1, 1)], {"window": CELL}),
    "conv_input-one": (
        ops.conv_input,
        [normal(1, 1, 1, 1), normal(1, 1, 1, 2)[..., :1]],
        {"size": (1, 1), "window": CELL},
    ),
    "conv_weight-one": (
        ops.conv_weight,
        [normal(1, 1, 1, 2), normal(1, 1, 1, 1)],
        {"window": CELL},
    ),
    "cross_entropy_input-one": (
        ops.cross_entropy_input,
        [normal(1), normal(1, 3), np.array([2])],
        {},
    ),
    "cumsum-one": (ops.cumsum, [normal(2, 1)], {"axis": 1}),
    "einsum-single": (
        ops.einsum_,
        [normal(1, 3), normal(3, 1)],
        {"subscripts": "ij,jk->ik"},
    ),
    "getitem-one": (ops.getitem, [normal(1, 3)], {"template": (slice(None), 1)}),
    "max_pool_at-one": (
        ops.max_pool_at,
        [normal(1, 2, 2, 1), apart(1, 2, 2, 1)],
        {"window": PAIR},
    ),
    "max_unpool-one": (
        ops.max_unpool,
        [normal(1, 1, 1, 1), apart(1, 2, 2, 1)],
        {"window": PAIR},
    ),
    "pack-one": (ops.pack, [normal(1), normal()], {}),
    "pack-plain": (ops.pack, [normal(2, 3), normal(2)], {}),
    "pad-one": (ops.pad, [normal(1, 1)], {"widths": ((0, 1), (2, 0))}),
    "scatter_add-one": (
        ops.scatter_add,
        [normal(1, 2), np.array([1])],
        {"template": (ARRAY,), "shape": (3, 2)},
    ),
    "sum_pool-one": (ops.sum_pool, [normal(1, 2, 2, 1)], {"window": PAIR}),
    "sum_unpool-one": (
        ops.sum_unpool,
        [normal(1, 1, 1, 1)],
        {"size": (2, 2), "window": PAIR},
    ),
    "transpose-one": (ops.transpose, [normal(1, 3)], {"axes": (1, 0)}),
    "broadcast_to-leading": (ops.broadcast_to, [normal(2, 3)], {"shape": (4, 2, 3)}),
}
EMPTY = {
    "astype-empty": (ops.astype, [normal(0, 2)], {"dtype": "float64"}),
    "batch_norm-empty": (
        batch_norm,
        [normal(5, 0), normal(0), normal(0)],
        {"eps": 0.1},
    ),
    "batch_norm_input-empty": (
        batch_norm_input,
        [normal(5, 0), normal(5, 0), normal(0)],
        {"eps": 0.1},
    ),
    "batch_norm_weight-empty": (
        batch_norm_weight,
        [normal(5, 0), normal(5, 0), normal(0)],
        {"eps": 0.1},
    ),
    "broadcast_to-none": (ops.broadcast_to, [normal(0)], {"shape": (2, 0)}),
    "conv_input-empty": (
        ops.conv_input,
        [normal(0, 3, 3, 2), normal(2, 2, 1, 2)],
        {"size": (4, 4), "window": PAIR},
    ),
    "conv_weight-empty": (
        ops.conv_weight,
        [normal(0, 4, 4, 1), normal(0, 3, 3, 2)],
        {"window": PAIR},
    ),
    "max_pool_at-empty": (
        ops.max_pool_at,
        [normal(0, 3, 3, 2), apart(0, 3, 3, 2)],
        {"window": PAIR},
    ),
    "max_unpool-empty": (
        ops.max_unpool,
        [normal(0, 2, 2, 2), apart(0, 3, 3, 2)],
        {"window": PAIR},
    ),
    "sum_unpool-empty": (
        ops.sum_unpool,
        [normal(0, 2, 2, 2)],
        {"size": (3, 3), "window": PAIR},
    ),
}
