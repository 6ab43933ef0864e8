"""Dask collections as data sets, on a real cluster of two processes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from dask_jobs import lazy_rows, rows_of
from dask_memory import LIMIT

import sillar as sl
from sillar import nn
from sillar.data import DataLoader, Dataset, TableTransform
from sillar.errors import ConfigError, DataError, SillarError

open_dask = pytest.importorskip(
    "sillar.distributed.dask", exc_type=ImportError
).open_dask

PARTS, ROWS = 12, 50
ALL = np.concatenate([rows_of(i, ROWS) for i in range(PARTS)])
QUIET = {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}


def ids(batches):
    return np.concatenate([x[:, 0] for x, _ in batches]).astype(int)


def labelled(client, **options):
    y = (ALL[:, 1] > 0).astype("int64")
    return open_dask(lazy_rows(PARTS, ROWS), target=y, scheduler=client, **options)


def test_an_array_has_the_rows_that_it_computes(client):
    import dask.array as da

    y = ALL[:, 1] > 0
    x = da.from_array(ALL, chunks=(70, 3))  # columns are cut too
    data = open_dask(x, target=da.from_array(y, chunks=33), scheduler=client)
    assert data.digest() == Dataset(ALL, y).digest()
    assert np.array_equal(ALL[[599, 3, 70, 3]], data.x[[599, 3, 70, 3]])
    assert np.array_equal(ALL[10:90], data.x[10:90])
    assert ALL.dtype == data.x.dtype
    assert open_dask(x, scheduler=client, dtype="float64").dtype == "float64"


def test_a_frame_has_numbers_words_and_classes(client):
    import dask.dataframe as dd
    import pandas as pd

    frame = pd.DataFrame(ALL[:, :3], columns=["id", "b", "c"])
    frame["kind"] = np.where(ALL[:, 1] > 0, "bad", "good")
    frame["service"] = np.where(ALL[:, 2] > 0, "http", "dns")
    lazy = dd.from_pandas(frame, npartitions=5)
    encoder = TableTransform(drop=["kind"])
    encoder.fit({name: frame[name].to_numpy() for name in frame})
    data = open_dask(lazy, target="kind", encoder=encoder, scheduler=client)
    expected = encoder({name: frame[name].to_numpy() for name in frame})
    assert np.array_equal(expected, data.x[:])
    assert data.classes == ("bad", "good")
    assert np.array_equal((ALL[:, 1] <= 0).astype(int), data.y)
    plain = open_dask(lazy[["id", "b", "c"]], target="c", scheduler=client)
    assert np.array_equal(ALL[:, :2], plain.x[:])
    assert np.array_equal(ALL[:, 2], plain.y)


def test_a_bag_holds_records_lists_or_texts(client):
    import dask.bag as db

    records = [{"a": float(r[1]), "y": int(r[0])} for r in ALL[:40]]
    data = open_dask(db.from_sequence(records, 4), target="y", scheduler=client)
    assert np.array_equal(ALL[:40, 1:2], data.x[:])
    assert list(range(40)) == data.y.tolist()
    lists = db.from_sequence(ALL[:40].tolist(), 4)
    data = open_dask(lists, target=0, scheduler=client)
    assert np.array_equal(ALL[:40, 1:], data.x[:])
    texts = ["ab", "ca", "b "]
    encoder = sl.data.CharTokenizer().fit(texts)
    x = open_dask(db.from_sequence(texts, 2), encoder=encoder, scheduler=client)
    assert np.array_equal(encoder(texts), x[:])


def test_empty_partitions_have_no_rows(client):
    import dask.array as da

    x = da.from_array(ALL, chunks=ROWS)
    few = x[x[:, 0] >= 550]  # most partitions are empty now
    data = open_dask(few, scheduler=client)
    assert np.array_equal(ALL[550:], data[:])
    with pytest.raises(DataError, match="expected rows, got none"):
        open_dask(x[x[:, 0] < 0], scheduler=client)


def test_an_epoch_has_every_row_once_mixed_by_partitions(client):
    data = labelled(client, window=3)
    loader = DataLoader(data, 32, shuffle=True, seed=5)
    first, second = ids(loader.epoch(0)), ids(loader.epoch(1))
    assert list(range(PARTS * ROWS)) == sorted(first) == sorted(second)
    assert not np.array_equal(first, second)
    for start in range(0, PARTS * ROWS, 3 * ROWS):  # three partitions at a time
        assert len(set(first[start : start + 3 * ROWS] // ROWS)) == 3
    jumps = np.diff(first[: 3 * ROWS] // ROWS) != 0
    assert jumps.mean() > 0.5  # their rows are mixed
    for number in (0, 7):
        x, y = loader.batch(1, number)
        assert np.array_equal(second[32 * number :][:32], x[:, 0].astype(int))
        assert np.array_equal((x[:, 1] > 0).astype(int), y)


def test_few_partitions_are_here_and_under_way(client):
    data = labelled(client, window=2)
    for _ in DataLoader(data, 20, shuffle=True).epoch(0):
        assert len(data.x._kept) <= 2
        assert len(data.x._futures) <= 2
    data.x.close()
    time.sleep(0.2)
    assert not any(client.has_what().values())  # nothing is left on the workers


def test_batches_are_the_same_with_one_worker_and_with_two(client):
    from distributed import Client, LocalCluster

    expected = list(DataLoader(labelled(client), 32, shuffle=True, seed=1).epoch(3))
    options = {"processes": True, "dashboard_address": ":0", "host": "127.0.0.1"}
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, **options) as one,
        Client(one, set_as_default=False) as alone,
    ):
        actual = list(DataLoader(labelled(alone), 32, shuffle=True, seed=1).epoch(3))
    assert len(expected) == len(actual) == 19
    for (x, y), (x_one, y_one) in zip(expected, actual, strict=True):
        assert x.tobytes() == x_one.tobytes()
        assert y.tobytes() == y_one.tobytes()


class StopAt(sl.Callback):
    """End the run within an epoch."""

    def __init__(self, step):
        self.step = step

    def on_step(self, run):
        if run.step == self.step:
            run.end("here")


def train(data, folder, *callbacks, resume=False):
    model = nn.Sequential(nn.Dense(8, 4), nn.ReLU(), nn.Dense(4, 1))
    saved = sl.train.every(steps=1)(sl.train.Checkpoint(folder))
    options = {"epochs": 3, "validation": 0.2, "seed": 2, "resume": resume}
    run = sl.fit(
        *(model, nn.BinaryCrossEntropy(), sl.Adam(1e-2), data),
        **(options | {"callbacks": [saved, *callbacks], "run_dir": folder}),
    )
    return run, model.parameters().vector.tobytes()


def test_a_run_resumes_in_the_middle_of_an_epoch_to_the_same_bits(client, tmp_path):
    data = labelled(client)
    whole, expected = train(data, tmp_path / "whole")
    assert whole.step == 45
    part, early = train(data, tmp_path / "part", StopAt(22))
    assert (part.epoch, part.batch) == (1, 7)
    assert early != expected
    again, actual = train(labelled(client), tmp_path / "part", resume=True)
    assert expected == actual
    for name in ("loss", "val_loss", "accuracy"):
        assert whole.metrics[name] == again.metrics[name]


def test_a_killed_worker_loses_no_row_and_counts_none_twice(client, kill):
    y = np.arange(PARTS * ROWS)
    lazy = lazy_rows(PARTS, ROWS, seconds=0.1)
    data = open_dask(lazy, target=y, scheduler=client, window=2)
    loader = DataLoader(data, 30, shuffle=True, seed=9)
    expected = [x.tobytes() for x, _ in loader.epoch(0)]
    seen, actual = [], []
    for number, (x, rows) in enumerate(loader.epoch(0)):
        if number in (3, 9):
            kill()
        actual.append(x.tobytes())
        seen += rows.tolist()
        assert np.array_equal(x[:, 0].astype(int), rows)
    assert list(range(PARTS * ROWS)) == sorted(seen)
    assert expected == actual


def test_a_process_trains_on_more_than_its_memory(cluster):
    script = Path(__file__).with_name("dask_memory.py")
    done = subprocess.run(
        [sys.executable, script, cluster.scheduler_address],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **QUIET},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["bytes"] > 2 * LIMIT
    assert found["peak"] < LIMIT
    assert found["rows"] == 1000 * found["steps"]
    assert found["accuracy"] > 0.7


def grown(block, path):
    with open(path, "a") as file:
        file.write("x")
    return block[: 5 + (os.path.getsize(path) > 8)]


def test_a_partition_that_changes_is_an_error(client, tmp_path):
    import dask.array as da

    path = str(tmp_path / "calls")
    lazy = da.from_array(ALL[:40], chunks=10).map_blocks(
        grown, path, dtype="f4", chunks=((5, 5, 5, 5), (8,)), meta=ALL[:0]
    )
    data = open_dask(lazy, scheduler=client)
    first = data[:]
    assert first.shape == (20, 8)
    data._kept.clear()
    with pytest.raises(DataError, match=r"partition .*same rows each time"):
        data[:]


@pytest.mark.parametrize(
    ("make", "options", "match"),
    [
        (lambda da: ALL, {}, "expected a Dask array, bag or dataframe"),
        (lambda da: da.from_array(ALL).sum(), {}, "got a single value"),
        (lambda da: da.from_array(ALL), {"window": 0}, "window"),
        (lambda da: da.from_array(ALL), {"encoder": str}, "expected an encoder"),
        (lambda da: da.from_array(ALL), {"target": 0}, "target=y"),
        (lambda da: da.from_array(ALL), {"target": ALL[:3, 0]}, "as many answers"),
        (lambda da: da.from_array(ALL * np.inf), {}, "partition 0: row 0"),
        (lambda da: da.from_array(np.array(["a"])), {}, "expected real numbers"),
    ],
)
def test_what_is_no_source_is_named(client, make, options, match):
    import dask.array as da

    with pytest.raises(SillarError, match=match), np.errstate(invalid="ignore"):
        open_dask(make(da), scheduler=client, **options)


def test_workers_of_the_loader_are_refused(client):
    with (
        DataLoader(labelled(client), 32, workers=1) as loader,
        pytest.raises(ConfigError, match="leave workers=0"),
    ):
        list(loader)


def test_a_cluster_that_is_not_there_is_named(client):
    lazy = lazy_rows(1, 2)
    with pytest.raises(ConfigError, match="expected a running cluster"):
        open_dask(lazy, scheduler=None)
    with pytest.raises(ConfigError, match="expected a running cluster"):
        open_dask(lazy, scheduler=5)
