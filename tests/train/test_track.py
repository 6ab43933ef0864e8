"""Metrics as a CSV file and as event files, read back by TensorBoard itself."""

import csv
import sys

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.data import Dataset
from sillar.errors import DependencyError
from sillar.train import CSVLog, TensorBoard

ROWS = Dataset(
    np.random.default_rng(0).normal(size=(64, 3)).astype("float32"), np.arange(64) % 2
)


def trained(directory, epochs, callbacks, **more):
    model = nn.Sequential(nn.Dense(3, 2))
    return sl.fit(
        *(model, sl.CrossEntropy(), sl.Adam(0.01), ROWS),
        epochs=epochs,
        callbacks=[make(directory) for make in callbacks],
        run_dir=directory,
        **more,
    )


def scalars(directory):
    """Return what TensorBoard reads: epoch and value of every metric."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing import event_accumulator

    found = event_accumulator.EventAccumulator(str(directory))
    found.Reload()
    return {
        name: [(event.step, event.value) for event in found.Scalars(name)]
        for name in found.Tags()["scalars"]
    }


def rows(directory):
    with (directory / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_for_each_epoch(tmp_path):
    run = trained(tmp_path, 3, [CSVLog], validation=0.25)
    found = rows(tmp_path)
    assert list(found[0]) == list(run.history[0])
    for row, expected in zip(found, run.history, strict=True):
        assert {name: float(value) for name, value in row.items()} == expected


def test_a_metric_that_comes_up_later_has_a_column(tmp_path):
    class Late(sl.Callback):
        def on_epoch_end(self, run):
            if run.epoch == 2:
                run.metrics["late"] = 7.0

    trained(tmp_path, 2, [lambda _: Late(), CSVLog])
    assert [row["late"] for row in rows(tmp_path)] == ["", "7.0"]


def test_tensorboard_reads_what_was_written(tmp_path):
    run = trained(tmp_path, 3, [TensorBoard])
    found = scalars(tmp_path / "events")
    assert set(found) == set(run.history[0]) - {"epoch"}
    for name, events in found.items():
        expected = [(row["epoch"], row[name]) for row in run.history]
        np.testing.assert_allclose(events, expected, rtol=1e-6)


def test_a_resumed_run_has_each_epoch_once(tmp_path):
    trained(tmp_path, 2, [CSVLog, TensorBoard])
    run = trained(tmp_path, 4, [CSVLog, TensorBoard], resume=True)
    assert [int(row["epoch"]) for row in rows(tmp_path)] == [1, 2, 3, 4]
    losses = scalars(tmp_path / "events")["loss"]
    assert [step for step, _ in losses] == [1, 2, 3, 4]
    expected = [row["loss"] for row in run.history]
    np.testing.assert_allclose([value for _, value in losses], expected, rtol=1e-6)


def test_without_the_library_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(DependencyError, match=r"pip install 'sillar\[track\]'"):
        trained(tmp_path, 1, [TensorBoard])
