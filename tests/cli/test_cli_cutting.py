"""Tables cut by group and by time: what belongs together stays in one part."""

import numpy as np
import pytest
from command_line import as_json, sillar

from sillar.cli.cutting import times_of
from sillar.cli.tables import Table
from sillar.errors import DataError
from sillar.evidence import check_splits

ROWS = 300


@pytest.fixture
def flows(tmp_path):
    """Return a CSV file of flows of 30 hosts over days, in no order."""
    start = np.random.default_rng(0).permutation(ROWS)
    rows = [
        f"{i},host{s // 10:02},2024-{1 + s // 28:02}-{1 + s % 28:02},{'ab'[i % 3 == 0]}"
        for i, s in enumerate(start)
    ]
    path = tmp_path / "flows.csv"
    path.write_text("\n".join(["size,host,day,kind", *rows]) + "\n")
    return path


def parts_of(path, **options):
    """Return the lines of the file that are in each part."""
    source = Table(target="kind", folder=str(path), **options)
    parts = source.parts(0)
    lines = [line.split(",") for line in path.read_text().splitlines()[1:]]
    columns = dict(zip(("size", "host", "day"), zip(*lines, strict=True), strict=False))
    whole = source.found["encoder"](columns)
    assert whole.shape[1] == 1, "neither column is a feature"
    row = {float(value): i for i, value in enumerate(whole[:, 0])}
    assert len(row) == len(lines)
    return {
        name: np.array([lines[row[float(value)]] for value in part.x[:, 0]])
        for name, part in parts._asdict().items()
        if part is not None
    }


def column(parts, number):
    return {name: lines[:, number] for name, lines in parts.items()}


def confirmed(parts, **keys):
    rows = {name: lines[:, :1].astype(int) for name, lines in parts.items()}
    return check_splits(rows, **keys)


def test_no_group_is_in_two_parts(flows):
    drop = parts_of(flows, drop=["host", "day"], validation=0.2)
    with pytest.raises(DataError, match="groups in both train and test"):
        confirmed(drop, groups=column(drop, 1))
    parts = parts_of(flows, groups="host", drop=["day"], validation=0.2)
    confirmed(parts, groups=column(parts, 1))
    sizes = {name: len(lines) for name, lines in parts.items()}
    assert sizes == {"train": 190, "validation": 50, "test": 60}
    other = parts_of(flows, groups="host", drop=["day"], split_seed=1)
    assert set(other["test"][:, 1]) != set(parts["test"][:, 1])


def test_the_latest_rows_are_tested(flows):
    parts = parts_of(flows, time="day", drop=["host"], validation=0.2)
    days = {name: np.sort(d.astype("M8[D]")) for name, d in column(parts, 2).items()}
    confirmed(parts, times=days)
    assert days["train"][-1] < days["validation"][0]
    assert days["validation"][-1] < days["test"][0]
    assert len(days["test"]) == 60


def test_with_both_a_group_that_goes_on_is_left_out_before(flows, capsys):
    parts = parts_of(flows, groups="host", time="day", test=55)
    days = {name: d.astype("M8[D]") for name, d in column(parts, 2).items()}
    confirmed(parts, groups=column(parts, 1), times=days)
    assert len(parts["test"]) == 55
    assert len(parts["train"]) == 240  # one host has five rows on each side
    assert "5 rows are left out" in capsys.readouterr().err


def test_a_column_to_cut_by_is_a_feature_if_it_is_listed(flows):
    source = Table(
        target="kind", folder=str(flows), groups="host", time="day", codes=["host"]
    )
    source.parts(0)
    assert source.found["encoder"].columns == ("size", "host")


def test_a_file_of_its_own_to_test_on_is_confirmed_too(flows):
    (flows.parent / "test.csv").write_text(flows.read_text())
    source = Table(
        target="kind",
        folder=str(flows.parent),
        path="flows.csv",
        test_path="test.csv",
        groups="host",
    )
    with pytest.raises(DataError, match="30 groups in both train and test"):
        source.parts(0)


def test_a_run_is_trained_tested_and_reported_with_groups(flows):
    run = flows.parent / "run"
    given = ("--data", flows, "--target", "kind", "--epochs", 1, "--out", run)
    cut = ("--set", 'data.groups="host"', "--set", 'data.time="day"')
    metrics = as_json("train", "table", *given, *cut)["metrics"]
    assert as_json("evaluate", run)["metrics"]["loss"] == metrics["loss"]
    sillar("report", run)
    (flows.parent / "new.csv").write_text("size\n3\n4\n")
    assert len(as_json("predict", run, flows.parent / "new.csv")["predictions"]) == 2


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["10", "9"], [10, 9]),
        (["1e3", "0.5"], [1000.0, 0.5]),
        (["1970-01-01", "1970-01-01T01:00:00+01:00"], [0, 0]),
        (["1970-01-02", "1970-01-01 00:00:01"], [86_400_000_000, 1_000_000]),
    ],
)
def test_times_are_numbers_or_dates(cells, expected):
    assert times_of(cells, "x").tolist() == expected


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"groups": "hosts"}, "expected a column 'hosts' to cut by, got size, host"),
        ({"time": "host"}, "expected times that are all numbers, or all dates"),
        ({"groups": "empty"}, "row 0: expected the name of a group, got an empty"),
        ({"time": "empty"}, "row 0: expected a time, got an empty"),
        ({"groups": "one"}, "expected two groups or more to cut between"),
        ({"time": "one"}, "expected two times or more to cut between"),
        ({"groups": "two", "time": "day"}, "expected groups that end before the cut"),
        ({"time": "day", "test": 300}, "expected a part of 1 to 299 of 300 rows"),
    ],
)
def test_mistakes_are_told(flows, options, text):
    head, *lines = flows.read_text().splitlines()
    lines = [f"{line},,1,{i % 2}" for i, line in enumerate(lines)]
    flows.write_text("\n".join([f"{head},empty,one,two", *lines]) + "\n")
    with pytest.raises(DataError, match=text):
        Table(target="kind", folder=str(flows), **options).parts(0)


def test_features_must_be_left(tmp_path):
    (tmp_path / "x.csv").write_text("host,kind\na,x\nb,y\nc,x\n")
    with pytest.raises(DataError, match="got only the target"):
        Table(target="kind", folder=str(tmp_path / "x.csv"), groups="host").parts(0)
