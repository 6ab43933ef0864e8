"""`sillar train intrusion`: from the files of NSL-KDD to a page and alarms."""

import csv
import re

import pytest
from command_line import as_json, sillar

from sillar.detectors.nsl_kdd import (
    FEATURES,
    NORMAL,
    TEST,
    TEST_21,
    TRAIN,
    read_nsl_kdd,
)

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
