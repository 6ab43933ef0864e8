"""`sillar evaluate`: the metrics of a run's test part, as tables and as JSON."""

import json
import shutil

import numpy as np
from command_line import as_json, sillar
from sklearn.metrics import classification_report, confusion_matrix, roc_auc_score

import sillar as sl


def test_the_metrics_are_those_that_training_ended_with(digits_run):
    found = as_json("evaluate", digits_run)
    record = json.loads((digits_run / "run.json").read_text())
    assert found == {"run": str(digits_run), "metrics": record["metrics"]}


def test_the_metrics_agree_with_scikit_learn(digits_run):
    found = as_json("evaluate", digits_run)["metrics"]
    test = sl.data.digits().split(0.75, seed=0)[1]
    logits = sl.predict(sl.load(digits_run / "model.safetensors"), test.x)
    powers = np.exp(logits.astype("float64"))
    shares = powers / powers.sum(axis=1, keepdims=True)
    report = classification_report(test.y, logits.argmax(1), output_dict=True)
    assert np.isclose(report["accuracy"], found["accuracy"])
    for average in ("macro", "weighted"):
        expected = report[f"{average} avg"]
        for sk, ours in (("precision",) * 2, ("recall",) * 2, ("f1-score", "f1")):
            assert np.isclose(expected[sk], found[f"{ours}_{average}"])
    auc = roc_auc_score(test.y, shares, multi_class="ovr")
    assert np.isclose(auc, found["roc_auc"])
    expected = confusion_matrix(test.y, logits.argmax(1))
    assert expected.tolist() == found["confusion_matrix"]
    for row, (name, mine) in zip(
        found["per_class"], sorted(report.items())[:10], strict=True
    ):
        assert row["class"] == name
        assert np.isclose(mine["precision"], row["precision"])


def test_people_see_every_table_in_80_columns(digits_run):
    out = sillar("evaluate", digits_run).stdout
    words = ["accuracy", "loss", "ROC-AUC", "PR-AUC", "by class", "support"]
    words += ["true class (row) by predicted class"]
    words += [f"{m}, {a}" for m in ("precision", "recall", "f1") for a in ("macro",)]
    for word in words:
        assert word in out, word
    assert max(len(line) for line in out.splitlines()[1:]) <= 80


def test_other_data_is_measured_with_a_warning(moons_run, two_moons, tmp_path):
    shutil.copy(two_moons / "train.csv", tmp_path / "all.csv")
    done = sillar("evaluate", moons_run, "--data", tmp_path, "--json")
    assert json.loads(done.stdout)["metrics"]["samples"] == 60
    assert "not the data that the run was tested on" in done.stderr
    assert sillar("evaluate", moons_run, "--data", two_moons).stderr == ""


def test_data_that_is_gone_is_named(moons_run, tmp_path, in_process):
    assert "nothing at this path" in in_process(
        "evaluate", moons_run, "--data", tmp_path, code=2
    )


def test_data_of_another_shape_is_named(moons_run, two_moons, tmp_path, in_process):
    rows = (two_moons / "all.csv").read_text().splitlines()
    wider = [f"{'t' if i == 0 else i},{row}" for i, row in enumerate(rows)]
    (tmp_path / "all.csv").write_text("\n".join(wider))
    message = in_process("evaluate", moons_run, "--data", tmp_path, code=2)
    assert "expected input (..., 2)" in message


def test_what_is_no_run_is_named(tmp_path, moons_run, in_process):
    assert "holds no run" in in_process("evaluate", tmp_path, code=2)
    assert "holds no run" in in_process("evaluate", tmp_path / "none", code=2)
    assert in_process("evaluate", moons_run / "run.json", code=2)
    run = shutil.copytree(moons_run, tmp_path / "run")
    (run / "model.safetensors").write_bytes(b"\x08" + b"\0" * 20)
    assert "model.safetensors" in in_process("evaluate", run, code=2)
    (run / "model.safetensors").unlink()
    assert "sillar train --resume" in in_process("evaluate", run, code=2)


def test_names_of_classes_are_no_markup(two_moons, tmp_path):
    options = ["--set", 'data.classes=["[red]b", "\\u001b[31mm"]']
    text = (two_moons / "csv.toml").read_text().replace("all.csv", "odd.csv")
    (two_moons / "odd.toml").write_text(text)
    rows = (two_moons / "all.csv").read_text().replace("benign", "[red]b")
    (two_moons / "odd.csv").write_text(rows.replace("malware", "\x1b[31mm"))
    sillar("train", two_moons / "odd.toml", *options, "--out", tmp_path / "run")
    out = sillar("evaluate", tmp_path / "run").stdout
    assert out.count("[red]b") == 3
    assert "\x1b" not in out


def test_baselines_stand_beside_the_model(digits_run):
    metrics = as_json("evaluate", digits_run)["metrics"]
    names = [row["model"] for row in metrics["baselines"]]
    assert names == ["majority", "one rule", "logistic regression"]
    assert metrics["headline"] == "accuracy"
    said = sillar("evaluate", digits_run).stdout
    assert "beside baselines" in said
    assert said.index("this model") < said.index("majority")


def test_accuracy_is_not_the_headline_of_a_rare_class(tmp_path):
    """Three positives in a hundred rows: average precision is named first."""
    rng = np.random.default_rng(0)
    rare = np.arange(1000) % 33 == 0
    rows = [
        f"{v:.3f},{'attack' if k else 'usual'}"
        for v, k in zip(rng.normal(size=1000) + rare, rare, strict=True)
    ]
    (tmp_path / "rare.csv").write_text("\n".join(["size,kind", *rows]) + "\n")
    given = ("--data", tmp_path / "rare.csv", "--target", "kind", "--epochs", 2)
    done = sillar("train", "table", *given, "--out", tmp_path / "run")
    assert (
        "The rarest class has 3.0 % of the rows: accuracy says little." in done.stdout
    )
    assert done.stdout.index("PR-AUC") < done.stdout.index("accuracy")
    assert as_json("evaluate", tmp_path / "run")["metrics"]["headline"] == "pr_auc"
