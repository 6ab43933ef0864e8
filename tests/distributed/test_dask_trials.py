"""Folds and searches as Dask tasks, on a real cluster of two processes."""

import threading

import dask_jobs as jobs
import numpy as np
import pytest

from sillar.data import Dataset
from sillar.errors import ConfigError, DataError
from sillar.evidence import cross_validate, k_folds

dask = pytest.importorskip("sillar.distributed.dask", exc_type=ImportError)


def data(n=120):
    x = np.random.default_rng(0).normal(size=(n, 4)).astype("f4")
    return Dataset(x, (x[:, 0] + x[:, 1] > 0).astype("i8"), ("no", "yes"))


def test_folds_have_the_numbers_that_one_process_has_to_the_bit(client):
    dataset = data()
    folds = list(k_folds(len(dataset), 5, stratify=dataset.y, seed=3))
    expected = cross_validate(jobs.fitted, dataset, folds)
    actual = dask.fit_kfold(jobs.fitted, dataset, folds, scheduler=client)
    assert expected == actual
    assert len(actual.scores["loss"]) == 5


def test_a_killed_worker_loses_no_fold(client, kill):
    dataset = data(60)
    folds = list(k_folds(60, 6))
    timer = threading.Timer(0.6, kill)
    timer.start()
    actual = dask.fit_kfold(jobs.slow, dataset, folds, scheduler=client)
    timer.join()
    assert list(range(6)) == actual.scores["fold"]
    expected = [float(dataset.x[test, 0].sum()) for _, test in folds]
    assert expected == actual.scores["rows"]


def test_a_fold_that_fails_is_named(client):
    with pytest.raises(DataError, match="fold 1: ArithmeticError: no fold 1"):
        dask.fit_kfold(jobs.broken, data(), k_folds(120, 3), scheduler=client)


def test_a_search_has_a_row_for_each_setting_and_the_best(client):
    seen = []
    found = dask.search(
        *(jobs.tried, data(), {"lr": [1, 2, 3, 4, 5], "width": [8, 16]}),
        **{"metric": "loss", "scheduler": client, "progress": seen.append},
    )
    assert 10 == len(found.rows) == len(seen)
    order = [(row["settings"]["lr"], row["settings"]["width"]) for row in found.rows]
    assert [(lr, width) for lr in (1, 2, 3, 4, 5) for width in (8, 16)] == order
    assert found.best["settings"] == {"lr": 3, "width": 8}
    assert found.best["metrics"] == {"loss": 0.08}
    errors = [row["error"] for row in found.failures]
    assert len(errors) == 4
    assert "expected a finite metric 'loss' of the trial" in errors[0]
    assert errors[-1] == "FloatingPointError: lr 5 diverges"
    most = dask.search(
        *(jobs.tried, data(), [{"lr": 1}, {"lr": 3}, {"lr": 9}]),
        **{"metric": "loss", "mode": "max", "scheduler": client},
    )
    assert most.best["settings"] == {"lr": 9}


def test_a_sample_of_the_settings_is_drawn_by_seed(client):
    space = {"lr": list(range(100, 120)), "width": [8, 16]}
    draws = [
        dask.search(
            *(jobs.tried, data(), space),
            **{"metric": "loss", "samples": 6, "seed": seed, "scheduler": client},
        )
        for seed in (1, 1, 2)
    ]
    first, again, other = ([row["settings"] for row in d.rows] for d in draws)
    assert len({tuple(s.values()) for s in first}) == 6
    assert first == again != other


def test_a_search_goes_on_with_the_trials_that_are_finished(client, tmp_path):
    calls = tmp_path / "calls"
    settings = [{"lr": lr, "calls": str(calls)} for lr in (1, 2, 3, 5, 6, 7)]
    options = {"metric": "loss", "scheduler": client, "folder": tmp_path / "kept"}

    def stop(row):
        if row["settings"]["lr"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dask.search(jobs.tried, data(), settings, progress=stop, **options)
    kept = len(list((tmp_path / "kept").iterdir()))
    assert 1 <= kept < 6
    calls.write_text("")
    found = dask.search(jobs.tried, data(), settings, **options)
    asked = calls.read_text().split()
    assert 6 - kept == len(asked)
    assert "5" in asked  # what failed is tried again
    assert len(found.rows) == 6
    assert found.best["settings"]["lr"] == 3
    calls.write_text("")
    dask.search(jobs.tried, data(), settings, **options)
    assert calls.read_text().split() == ["5"]
    dask.search(jobs.tried, data(61), settings[:1], **options)
    assert calls.read_text().split() == ["5", "1"]  # other data, another trial


def test_a_killed_worker_loses_no_trial(client, kill):
    settings = [{"lr": lr, "seconds": 0.3} for lr in range(6, 14)]
    timer = threading.Timer(0.5, kill)
    timer.start()
    found = dask.search(
        *(jobs.tried, data(), settings), **{"metric": "loss", "scheduler": client}
    )
    timer.join()
    assert [float((lr - 3) ** 2) for lr in range(6, 14)] == [
        row["metrics"]["loss"] for row in found.rows
    ]


@pytest.mark.parametrize(
    ("settings", "options", "match"),
    [
        ([], {}, "expected settings to try, got none"),
        ({"lr": 3}, {}, "expected a list of choices for every name"),
        ([{"lr": 3}], {"mode": "best"}, "mode must be 'min' or 'max'"),
        ([{"lr": 3}], {"samples": 2}, "samples must be an integer from 1 to the 1"),
        ([{"lr": jobs}], {}, "expected plain data as settings"),
        ([{"lr": 5}, {"lr": 4}], {}, "all 2 trials failed, the first with"),
    ],
)
def test_what_cannot_be_searched_is_named(client, settings, options, match):
    options = {"metric": "loss", "scheduler": client} | options
    with pytest.raises(ConfigError, match=match):
        dask.search(jobs.tried, data(), settings, **options)


def test_partitions_are_no_data_for_workers(client):
    x = jobs.lazy_rows(2, 5)
    partitions = dask.open_dask(x, target=np.arange(10), scheduler=client)
    for part in (partitions, partitions[:4]):
        with pytest.raises(ConfigError, match="data that can be sent to workers"):
            dask.fit_kfold(jobs.slow, part, k_folds(4, 2), scheduler=client)
