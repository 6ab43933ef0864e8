"""Every layer in a compiled step: replays give what the eager step gives."""

import copy

import numpy as np
import pytest

import sillar as sl
from sillar.testing.cases.layers import CASES


def run(layer, inputs, training, compiled):
    """Return output, gradients and buffers of the second of two equal steps."""
    layer = copy.deepcopy(layer).init(sl.Rng(0), "float64")

    def step(*inputs):
        y = layer(*inputs, rng=training)
        return y, sl.grad((y * y).sum(), layer.parameters())

    step = sl.compile(step) if compiled else step
    step(*inputs)
    y, gradients = step(*inputs)
    named = {"output": y, **gradients, **layer.buffers()}
    return {name: tensor.numpy() for name, tensor in named.items()}


@pytest.mark.parametrize("training", [None, sl.Rng(1)], ids=["infer", "train"])
@pytest.mark.parametrize(("layer", "inputs"), CASES.values(), ids=CASES)
def test_a_replay_gives_what_the_eager_step_gives(layer, inputs, training):
    expected = run(layer, inputs, training, compiled=False)
    for name, array in run(layer, inputs, training, compiled=True).items():
        scale = max(1.0, np.abs(expected[name]).max(initial=0))
        np.testing.assert_allclose(
            array, expected[name], rtol=1e-10, atol=1e-10 * scale, err_msg=name
        )
