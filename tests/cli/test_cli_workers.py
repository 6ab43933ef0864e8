"""`sillar train --workers`: worker processes below a real command line."""

import json

from command_line import as_json, sillar


def test_workers_train_the_same_model(two_moons, moons_run, tmp_path):
    run = tmp_path / "run"
    sillar("train", two_moons / "csv.toml", "--workers", 2, "--out", run)
    names = ("model.safetensors", "run.json")
    expected, got = ([(d / n).read_bytes() for n in names] for d in (moons_run, run))
    assert expected[0] == got[0]
    metrics = [json.loads(text[1])["metrics"] for text in (expected, got)]
    assert metrics[0] == metrics[1]


def test_a_run_goes_on_with_another_number_of_workers(two_moons, tmp_path):
    run, recipe = tmp_path / "run", two_moons / "csv.toml"
    sillar("train", recipe, "--epochs", 2, "--out", run)
    done = as_json("train", "--resume", run, "--epochs", 3, "--workers", 1)
    whole = as_json("train", recipe, "--epochs", 3, "--out", tmp_path / "whole")
    assert whole["metrics"] == done["metrics"]


def test_workers_are_a_number(two_moons, in_process):
    message = in_process("train", two_moons / "csv.toml", "--workers", -1, code=2)
    assert "workers must be an integer >= 0, got -1" in message
