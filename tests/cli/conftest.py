"""Finished runs and small problems, made once for all tests of the command line."""

import numpy as np
import pytest
from command_line import DIGITS, recipe, sillar

import sillar as sl
from sillar import nn


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """Return a finished run of the digits, three epochs on a quarter of them."""
    directory = tmp_path_factory.mktemp("runs") / "digits"
    sillar("train", *DIGITS, "--out", directory)
    return directory


@pytest.fixture(scope="session")
def two_moons(tmp_path_factory):
    """Return a folder with a small problem as CSV, as NPZ and as recipes."""
    folder = tmp_path_factory.mktemp("moons")
    rng = np.random.default_rng(0)
    angle, label = rng.uniform(0, np.pi, 400), np.arange(400) % 2
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x[label == 1] = [1, 0.5] - x[label == 1]
    x += rng.normal(0, 0.05, x.shape)
    words = np.array(["benign", "malware"])[label]
    rows = [f"{a:.6f},{b:.6f},{word}" for (a, b), word in zip(x, words, strict=True)]
    for name, part in (("all", rows), ("train", rows[:300]), ("test", rows[300:])):
        (folder / f"{name}.csv").write_text("\n".join(["u,v,kind", *part]) + "\n")
    np.savez(folder / "all.npz", x=x.astype("float32"), y=label, z=x[:, :1] * 2)
    (folder / "csv.toml").write_text(recipe('source = "csv"', 'path = "all.csv"'))
    return folder


@pytest.fixture(scope="session")
def moons_run(two_moons):
    """Return a finished run on the small problem."""
    directory = two_moons / "run"
    sillar("train", two_moons / "csv.toml", "--out", directory)
    return directory


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory):
    """Return the file of a model that the library saved, without notes."""
    path = tmp_path_factory.mktemp("models") / "plain.safetensors"
    model = nn.Sequential(nn.Dense(4, 3)).init(sl.Rng(0))
    sl.save(model, path)
    return path


@pytest.fixture
def in_process(capsys):
    """Return a function that runs a command here and returns what it said.

    For the many mistakes that end before anything is trained: starting Python for
    each would take a minute.
    """
    from sillar.cli import main

    def run(*arguments, code=0):
        capsys.readouterr()
        found = main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        assert found == code, (found, out, err)
        if code == 2:
            assert out == ""
            *warnings, message = err.splitlines()
            assert message.startswith("error: ")
            assert len(warnings) <= 1
        return err if code else out

    return run
