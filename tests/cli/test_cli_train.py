"""`sillar train`: where runs go, what it prints, and how it fails."""

import json
import os
import re

import pytest
from command_line import DIGITS, as_json, only_object, sillar

from sillar.train import load


def test_a_run_goes_to_a_directory_of_its_own(two_moons, tmp_path):
    recipe = two_moons / "csv.toml"
    first, second = (
        as_json("train", recipe, "--epochs", 1, cwd=tmp_path)["run"] for _ in range(2)
    )
    assert first != second
    for run in (first, second):
        assert re.fullmatch(r"runs/csv-\d{8}-\d{6}(-2)?", run)
        names = {path.name for path in (tmp_path / run).iterdir()}
        assert names == {"run.json", "metrics.jsonl", "model.safetensors", "checkpoint"}


def test_a_run_is_never_overwritten(moons_run, two_moons):
    before = (moons_run / "run.json").read_bytes()
    message = sillar("train", two_moons / "csv.toml", "--out", moons_run, code=2).stderr
    assert "holds a run already" in message
    assert "--resume" in message
    assert before == (moons_run / "run.json").read_bytes()


def test_json_is_one_object_with_the_metrics_of_the_test_part(two_moons, tmp_path):
    run = tmp_path / "run"
    found = as_json("train", two_moons / "csv.toml", "--out", run)
    assert found["run"] == str(run)
    assert found["metrics"]["accuracy"] > 0.9
    assert 0 < found["metrics"]["loss"] < 1
    assert found["metrics"] == as_json("evaluate", run)["metrics"]


def test_people_get_a_line_per_epoch_a_table_and_the_directory(two_moons, tmp_path):
    done = sillar("train", two_moons / "csv.toml", "--out", "here", cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert len(lines) == 5
    assert lines[4].startswith("epoch 5/5  loss ")
    assert re.search(r"steps/s  +\d+ s left", lines[0])
    for word in ("accuracy", "ROC-AUC", "PR-AUC", "f1, weighted", "run  here"):
        assert word in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_options_change_the_recipe(two_moons, tmp_path):
    options = ["--epochs", 2, "--batch-size", 64, "--seed", 9, "--backend", "numpy"]
    as_json("train", two_moons / "csv.toml", *options, "--out", tmp_path / "run")
    training = json.loads((tmp_path / "run" / "run.json").read_text())["recipe"][
        "training"
    ]
    given = [training[name] for name in ("epochs", "batch_size", "seed", "backend")]
    assert given == [2, 64, 9, "numpy"]


def test_precision_is_an_option_and_the_progress_says_how(tmp_path):
    done = sillar(
        *("train", "digits", "--epochs", 1, "--precision", "bfloat16"),
        *("--out", tmp_path / "run"),
    )
    assert done.stderr.count("bfloat16: numpy has no fast arithmetic in 16 bits") == 1
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["recipe"]["training"]["precision"] == "bfloat16"
    done = sillar(
        "train", "--resume", tmp_path / "run", "--precision", "float32", code=2
    )
    assert "training.precision was 'bfloat16', now it is 'float32'" in done.stderr


def test_the_seed_decides_the_model(two_moons, tmp_path):
    models = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        options = ["--epochs", 1, "--seed", seed, "--out", tmp_path / name]
        sillar("train", two_moons / "csv.toml", *options)
        models[name] = (tmp_path / name / "model.safetensors").read_bytes()
    assert models["a"] == models["b"] != models["c"]


def test_the_model_file_says_what_its_model_takes_and_gives(digits_run):
    from sillar.files import read_header
    from sillar.train.model_files import about

    path = digits_run / "model.safetensors"
    notes = about(read_header(path), path)["notes"]
    expected = {"classes": [*"0123456789"], "input": [8, 8, 1], "scale": 16}
    assert expected == notes
    assert load(path).parameters().size == 24_586


def test_a_run_that_diverges_says_why_and_has_no_bare_nan(two_moons, tmp_path):
    run = tmp_path / "run"
    options = ["--set", "optimizer.lr=1e37", "--out", run]
    done = sillar("train", two_moons / "csv.toml", *options, "--json", code=2)
    found = only_object(done.stdout)
    assert found["run"] == str(run)
    assert found["metrics"]["loss"] is None
    assert "training failed: " in done.stderr
    assert "lower the learning rate" in done.stderr
    for name in ("run.json", "metrics.jsonl"):
        assert "NaN" not in (run / name).read_text()
        assert "Infinity" not in (run / name).read_text()
    assert "training failed: " in sillar("train", "--resume", run, code=2).stderr
    assert as_json("evaluate", run)["metrics"]["loss"] is None


def test_a_place_that_cannot_be_written_is_named(two_moons, tmp_path, in_process):
    (tmp_path / "file").write_text("")
    recipe = two_moons / "csv.toml"
    for out in (tmp_path / "file", tmp_path / "file" / "run", "/proc/run"):
        assert str(out.parent if out == "x" else out) in in_process(
            "train", recipe, "--out", out, code=2
        )


def test_a_full_disk_is_named(two_moons, tmp_path):
    full = tmp_path / "run"
    full.mkdir()
    os.symlink("/dev/full", full / "metrics.jsonl")
    message = sillar("train", two_moons / "csv.toml", "--resume", full, code=2).stderr
    assert "No space left on device" in message


@pytest.mark.timeout(600)
def test_digits_are_learnt_to_98_percent(tmp_path):
    found = as_json("train", "digits", "--out", tmp_path / "run")
    assert found["metrics"]["accuracy"] >= 0.98


def test_the_quarter_of_the_digits_is_what_other_tests_train_on(digits_run):
    record = json.loads((digits_run / "run.json").read_text())
    assert record["name"] == DIGITS[0]
    assert record["metrics"]["samples"] == 1348
