"""`sillar train intrusion`: from the files of NSL-KDD to a page and alarms."""

import csv
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import as_json, environment, sillar

from sillar.detectors.nsl_kdd import (
    FEATURES,
    NORMAL,
    TEST,
    TEST_21,
    TRAIN,
    read_nsl_kdd,
)

KILLING = str(Path(__file__).with_name("killing.py"))
QUICK = ("--epochs", 3, "--set", "detector.epochs=3", "--set", "detector.folds=2")


def write(path, traffic, rows, service=None):
    cells = [[traffic.columns[name][row] for name in FEATURES] for row in rows]
    for row in cells if service else ():
        row[FEATURES.index("service")] = service
    lines = [
        ",".join([*row, str(traffic.kinds[i]), "21"])
        for row, i in zip(cells, rows, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def folders(shared_data, tmp_path_factory):
    """Return two folders with the same file to train on and others to test on."""
    known = read_nsl_kdd(shared_data / "nsl-kdd")
    test = read_nsl_kdd(shared_data / "nsl-kdd", TEST)
    found = []
    for canary in (None, "canary"):
        folder = tmp_path_factory.mktemp("nsl-kdd")
        write(folder / TRAIN, known, range(0, 25192, 10))
        write(folder / TEST, test, range(0, 22544, 40), canary)
        write(folder / TEST_21, test, range(0, 22544, 80), canary)
        found.append(folder)
    return found


@pytest.fixture(scope="module")
def runs(folders):
    found = [folder / "run" for folder in folders]
    for folder, run in zip(folders, found, strict=True):
        sillar("train", "intrusion", "--data", folder, *QUICK, "--out", run)
    return found


def test_nothing_is_learned_of_the_test_file(runs):
    """A canary in every row to test on leaves the model the same, to the bit."""
    models = [(run / "model.safetensors").read_bytes() for run in runs]
    assert models[0] == models[1]
    assert b"canary" not in models[0]


def test_the_report_says_where_alarms_begin(runs):
    sillar("report", runs[0])
    page = (runs[0] / "report.html").read_text()
    assert "on types of attack left out of training" in page
    assert "where it was chosen" in page


def test_the_report_marks_kinds_of_attack_that_are_new(runs, folders):
    sillar("report", runs[0])
    page = (runs[0] / "report.html").read_text()
    assert TEST in page
    assert TEST_21 in page
    known, test = (set(read_nsl_kdd(folders[0], n).kinds) for n in (TRAIN, TEST))
    rows = re.findall(r"<tr>\s*<td[^>]*>(\w+)</td>\s*<td[^>]*>(new|)</td>", page)
    assert {kind for kind, _ in rows} == test - {NORMAL}
    assert {kind for kind, new in rows if new} == test - known
    assert test - known
    assert re.search(r"\w+: duration \d+, protocol_type \w+, service \w+", page)


def cells_of(page, model):
    """Return the cells of each row of a model, and how often it has one."""
    rows = re.findall(rf"<tr>\s*<td[^>]*>{model}</td>(.*?)</tr>", page, re.DOTALL)
    return [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in rows]


def test_the_report_has_others_on_the_same_files_and_five_classes(runs, folders):
    """Of both files: at 0.5 and by cost, and how well the five classes are told."""
    sillar("report", runs[0])
    page = (runs[0] / "report.html").read_text()
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads.index("Other models") + 1 == heads.index("5 classes")
    for name in ("random forest", "logistic regression"):
        for how in ("at 0.5", "by cost"):
            assert [len(row) for row in cells_of(page, f"{name}, {how}")] == [5, 5]
        assert [len(row) for row in cells_of(page, name)][-2:] == [7, 7]
        assert all(float(row[0]) > 0.5 for row in cells_of(page, f"{name}, at 0.5"))
    own = cells_of(page, "this model")[-4:]
    metrics = as_json("evaluate", runs[0])["metrics"]
    assert float(own[0][0]) == pytest.approx(metrics["accuracy"], abs=1e-4)
    assert float(own[0][1]) == pytest.approx(metrics["roc_auc"], abs=1e-4)
    heads = re.findall(r'<button type="button">(\w+)</button>', page)
    first = heads.index("dos") - 1
    assert heads[first : first + 5] == ["normal", "dos", "probe", "r2l", "u2r"]
    test = read_nsl_kdd(folders[0], TEST)
    right = float(own[2][0])  # of all rows, the share that is in its class
    recalls = [float(cell) for cell in own[2][2:]]
    shares = np.bincount(test.categories, minlength=5) / len(test.kinds)
    assert right == pytest.approx(recalls @ shares, abs=1e-3)
    assert recalls[0] > 0.5 < recalls[1]


def test_without_scikit_learn_one_sentence_stands_for_the_forest(
    runs, tmp_path, in_process, monkeypatch
):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    in_process("report", runs[0], "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("a random forest needs the package scikit-learn: pip") == 1
    assert cells_of(page, "random forest, at 0.5") == []
    assert len(cells_of(page, "logistic regression, at 0.5")) == 2


def test_raw_connections_are_judged(runs, folders, tmp_path):
    known = read_nsl_kdd(folders[0])
    rows = [int((known.kinds == kind).argmax()) for kind in (NORMAL, "neptune")]
    with (tmp_path / "new.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(FEATURES)
        for row in rows:
            writer.writerow([known.columns[name][row] for name in FEATURES])
    found = as_json("predict", runs[0], tmp_path / "new.csv")["predictions"]
    assert [row["class"] for row in found] == ["normal", "attack"]


def test_evaluate_and_inspect_know_the_detector(runs):
    metrics = as_json("evaluate", runs[0])["metrics"]
    assert metrics["roc_auc"] > 0.9
    layers = as_json("inspect", runs[0])["file"]
    assert layers["notes"]["threshold"]["value"] == 0.5


def test_a_killed_run_goes_on_with_the_next_round(runs, folders, tmp_path):
    """Killed in the second of two rounds; the model is the same, to the bit."""
    run = tmp_path / "run"
    given = ("train", "intrusion", "--data", folders[0], *QUICK, "--out", run)
    kill = [sys.executable, KILLING, "sillar.detectors.intrusion", "autoencoder", "2"]
    done = subprocess.run([*kill, *map(str, given)], env=environment(), check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in run.glob("round-*")] == ["round-1.safetensors"]
    said = sillar("train", "--resume", run).stderr
    assert "round 1/2: done before" in said
    assert "round 2/2: without" in said
    models = [(r / "model.safetensors").read_bytes() for r in (runs[0], run)]
    assert models[0] == models[1]
    assert list(run.glob("round-*")) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((), "folder of NSL-KDD with --data"),
        (("--data", "DIR", "--set", "data.validation=0.2"), "leave validation away"),
        (("--data", "DIR", "--set", "detector.folds=1"), "folds must be an integer"),
        (("--data", "DIR", "--set", 'detector.type="x"'), "unknown type 'x'"),
    ],
)
def test_mistakes_are_told(folders, in_process, options, text):
    given = [folders[0] if option == "DIR" else option for option in options]
    assert text in in_process("train", "intrusion", *given, code=2)


def test_another_source_has_no_intrusions(in_process):
    given = ("digits", "--epochs", 1, "--set", 'detector.type="intrusion"')
    assert "nsl-kdd" in in_process("train", *given, code=2)
