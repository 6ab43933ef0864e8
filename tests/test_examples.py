"""Every example runs on tiny settings, and what it claims holds."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import sillar as sl
from sillar import nn

FOLDER = Path(__file__).parent.parent / "examples"
SONG = "so it goes on and on and " * 40
TINY = {
    "character_model": {"text": SONG, "steps": 3, "length": 9},
    "digits_by_hand": {"epochs": 1},
    "hessian_vector": {"epochs": 1, "steps": 5, "draws": 3},
    "own_layer": {"n": 200, "epochs": 2},
}


def example(name):
    return runpy.run_path(str(FOLDER / f"{name}.py"))


def test_every_example_has_a_row():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(TINY)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda p: p.stem)
def test_examples_are_short(path):
    assert path.read_text().count("\n") < 200


@pytest.mark.parametrize("name", TINY)
def test_example_runs(name, capsys):
    example(name)["main"](**TINY[name])
    assert capsys.readouterr().out


def test_the_loop_by_hand_is_fit_to_the_bit():
    assert example("digits_by_hand")["main"](epochs=2) is True


def test_the_character_model_learns_and_writes(capsys):
    loss, pairs = example("character_model")["main"](SONG, steps=200, length=40)
    assert loss < 0.5 * pairs
    written = capsys.readouterr().out.splitlines()[-1]
    assert written == SONG[:44]


def test_the_layer_learns():
    assert example("own_layer")["main"](n=400, epochs=20) > 0.9


def test_curvature_is_that_of_the_whole_hessian():
    part = example("hessian_vector")
    model = nn.Sequential(nn.Dense(3, 2), nn.Tanh(), nn.Dense(2, 2))
    model.init(sl.Rng(0), dtype="float64")
    data = sl.data.Dataset(sl.Rng(1).normal((20, 3), "float64"), np.arange(20) % 2)
    product = part["hessian_product"](model, sl.CrossEntropy(), data)
    size = model.parameters().size
    whole = np.stack([product(row) for row in np.eye(size)])
    expected = np.linalg.eigvalsh(whole)[::-1]
    np.testing.assert_allclose(whole, whole.T, atol=1e-12)
    np.testing.assert_allclose(whole, by_differences(model, data), atol=1e-6)
    actual = part["largest_eigenvalues"](product, size, size)
    np.testing.assert_allclose(actual[:3], expected[:3], rtol=1e-9)
    assert abs(part["trace"](product, size, 400) - np.trace(whole)) < 0.2


def by_differences(model, data, step=1e-5):
    """Return the Hessian from central differences of the gradient."""
    parameters = model.parameters()
    vector = parameters.vector
    rows = []
    for i in range(vector.size):
        sides = []
        for sign in (1, -1):
            vector[i] += sign * step
            loss = sl.CrossEntropy()(model(data.x), data.y)
            sides.append(parameters.pack(sl.grad(loss, parameters)))
            vector[i] -= sign * step
        rows.append((sides[0] - sides[1]) / (2 * step))
    return np.stack(rows)
