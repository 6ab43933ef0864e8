"""`sillar draw`: the picture of a run's training step."""

import json
import os
import shutil
from importlib.util import find_spec

import pytest
from command_line import as_json, sillar

MISSING = shutil.which("dot") is None or find_spec("graphviz") is None
needs_dot = pytest.mark.skipif(
    MISSING and "CI" not in os.environ,
    reason="needs Graphviz: the program dot and the package graphviz",
)


def test_a_run_is_drawn_as_text(digits_run, tmp_path):
    path = tmp_path / "graph.dot"
    found = as_json("draw", digits_run, "--out", path)
    text = path.read_text()
    assert found["run"] == str(digits_run)
    assert found["file"] == str(path)
    assert 0 < found["boxes"] <= 60
    assert "Conv2D(1, 32, 3" in text
    assert "CrossEntropy" in text
    assert "24,586 parameters" in text
    assert "(32, 8, 8, 1)" in text  # a batch of the recipe


def test_layers_are_unfolded_and_gradients_coloured(digits_run, tmp_path, in_process):
    path = tmp_path / "graph.dot"
    plain = json.loads(in_process("draw", digits_run, "--out", path, "--json"))
    options = ["--unfold", "layers.0", "--gradients", "--out", path, "--json"]
    opened = json.loads(in_process("draw", digits_run, *options))
    assert opened["boxes"] > plain["boxes"]
    assert "gradient" in path.read_text()
    options = ["--unfold", "all", "--out", path, "--json"]
    everything = json.loads(in_process("draw", digits_run, *options))
    assert everything["boxes"] > everything["operations"]
    few = json.loads(
        in_process("draw", digits_run, "--boxes", 5, "--out", path, "--json")
    )
    assert few["boxes"] <= 5


@needs_dot
def test_people_get_a_picture_in_the_run(moons_run):
    out = sillar("draw", moons_run).stdout
    assert "graph.svg" in out
    assert "operations in" in out
    assert (moons_run / "graph.svg").read_bytes().startswith(b"<?xml")
    assert max(map(len, out.splitlines())) <= 80 or str(moons_run) in out


def test_a_run_without_a_trained_model_is_drawn_too(digits_run, tmp_path, in_process):
    (tmp_path / "run").mkdir()
    shutil.copy(digits_run / "run.json", tmp_path / "run")
    path = tmp_path / "a.dot"
    in_process("draw", tmp_path / "run", "--out", path)
    assert "Conv2D(1, 32, 3" in path.read_text()


def test_mistakes_are_explained(digits_run, tmp_path, in_process):
    out = ("--out", tmp_path / "a.dot")
    assert "no run" in in_process("draw", tmp_path, *out, code=2)
    said = in_process("draw", digits_run, "--unfold", "layers.99", *out, code=2)
    assert "'layers.99'" in said
    said = in_process("draw", digits_run, "--out", tmp_path / "a.jpg", code=2)
    assert "ends in .svg" in said
    assert not (tmp_path / "a.dot").exists()
