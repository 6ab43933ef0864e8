"""Layers for rows of tables."""

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.errors import ConfigError, DataError, ShapeError


def test_a_code_adds_its_vector():
    layer = nn.CodedDense(3, 2, [4, 2]).init(sl.Rng(0))
    x = np.array([[0.5, 3, 0], [0.5, 0, 1]], "float32")
    plain = 0.5 * layer.weight.data[0] + layer.bias.data
    first, second = (vectors.weight.data for vectors in layer.vectors)
    expected = [plain + first[3] + second[0], plain + first[0] + second[1]]
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-6)


def test_rows_may_be_codes_alone():
    layer = nn.CodedDense(1, 2, [3]).init(sl.Rng(0))
    assert layer(np.array([[2.0], [0.0]], "float32")).shape == (2, 2)
    assert layer.weight.shape == (0, 2)


def test_mistakes_in_codes_are_told():
    layer = nn.CodedDense(2, 2, [3]).init(sl.Rng(0))
    with pytest.raises(DataError, match=r"in \[0, 3\), got 3 to 3"):
        layer(np.array([[0.0, 3.0]], "float32"))
    with pytest.raises(ShapeError, match=r"expected input \(..., 2\)"):
        layer(np.zeros((1, 3), "float32"))
    for sizes in ([], [1, 1, 1], [0]):
        with pytest.raises(ConfigError, match="CodedDense"):
            nn.CodedDense(2, 2, sizes)


def test_rescaling_has_two_numbers_and_nothing_to_train():
    layer = nn.Rescaling(1 / 255, offset=-0.5).init(sl.Rng(0))
    x = np.array([[0, 255]], "float32")
    np.testing.assert_allclose(layer(x).numpy(), [[-0.5, 0.5]])
    assert not layer.parameters()
    for wrong in ("x", True, float("inf"), None):
        with pytest.raises(ConfigError, match="scale must be a finite number"):
            nn.Rescaling(wrong)
