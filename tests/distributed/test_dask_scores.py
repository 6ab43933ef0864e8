"""Scores of large tables as Dask tasks, on a real cluster of two processes."""

import json
import os
import threading
import time
from itertools import chain

import numpy as np
import pytest
from dask_jobs import COLUMNS, lazy_frame, lazy_rows, raw_frame, rows_of

import sillar as sl
from sillar import nn
from sillar.data import TableTransform
from sillar.errors import ConfigError, DataError, SillarError

parquet = pytest.importorskip("pyarrow.parquet")
dask = pytest.importorskip("sillar.distributed.dask", exc_type=ImportError)
predict = dask.predict

PARTS, ROWS = 12, 40
CLASSES = ["attack", "benign", "odd"]


def columns(frame):
    return {name: frame[name].to_numpy() for name in frame}


@pytest.fixture
def saved(tmp_path):
    """Return the path of a model of raw rows with its encoder."""
    raw = [columns(raw_frame(i, 50)) for i in range(3)]
    joined = {name: np.concatenate([part[name] for part in raw]) for name in raw[0]}
    encoder = TableTransform(drop=["id"]).fit(joined)
    model = nn.Sequential(nn.Dense(len(encoder.names), 8), nn.ReLU(), nn.Dense(8, 3))
    model.init(sl.Rng(1))
    path = tmp_path / "model.safetensors"
    sl.save(model, path, encoder=encoder, classes=CLASSES)
    return path


def read(folder):
    """Return the columns of all parts, in the table's order."""
    paths = sorted(folder.glob("part-*.parquet"))
    parts = [parquet.read_table(path).to_pydict() for path in paths]
    return {name: [*chain.from_iterable(p[name] for p in parts)] for name in parts[0]}


def expected_of(saved, parts=PARTS, rows=ROWS):
    """Return what the model says of the same rows in this process."""
    model, encoder = sl.load(saved), sl.load_encoder(saved)
    found = {"id": [], "class": [], "probability": []}
    for number in range(parts):
        frame = columns(raw_frame(number, rows))
        outputs = sl.train.predict(model, encoder(frame)).astype("f8")
        shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        found["id"] += frame["id"].tolist()
        found["class"] += [CLASSES[i] for i in shares.argmax(axis=1)]
        found["probability"] += shares.max(axis=1).tolist()
    return found


def test_raw_rows_get_the_scores_that_one_process_gives(client, saved, tmp_path):
    steps = []
    scores = predict(
        *(saved, lazy_frame(PARTS, ROWS), tmp_path / "out"),
        **{"keep": ["id"], "scheduler": client},
        progress=lambda s: steps.append((s.computed, s.rows)),
    )
    assert read(tmp_path / "out") == expected_of(saved)
    assert (scores.rows, scores.computed, scores.finished) == (PARTS * ROWS, PARTS, 0)
    assert [(i, ROWS * i) for i in range(1, PARTS + 1)] == steps
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *(f"part-{i:06d}.parquet" for i in range(PARTS)),
        "scores.json",
    ]


def loaded():
    from sillar.distributed.dask.scores import LOADED

    return dict(LOADED)


def test_the_model_is_loaded_once_by_each_worker(client, saved, tmp_path):
    counts = []
    slow = lazy_frame(PARTS, ROWS, seconds=0.05)
    options = {"progress": lambda _: counts.append(client.run(loaded))}
    scores = predict(saved, slow, tmp_path / "out", scheduler=client, **options)
    assert dict.fromkeys(client.ncores(), 1) == scores.loads
    assert len(counts) == PARTS
    for found in counts:  # asked after each partition, of all workers
        assert [list(loads.values()) for loads in found.values()] == [[1], [1]]
    assert list(client.run(loaded).values()) == [{}, {}]


def test_a_killed_worker_loses_no_row_and_scores_none_twice(
    client, kill, saved, tmp_path
):
    """The worker that comes for the dead one gets the model, too."""
    timer = threading.Timer(0.8, kill)
    timer.start()
    slow = lazy_frame(24, ROWS, seconds=0.2)
    scores = predict(saved, slow, tmp_path / "out", keep=["id"], scheduler=client)
    timer.join()
    assert len(scores.loads) == 3  # two workers, and a new one
    assert {1} == set(scores.loads.values())
    assert expected_of(saved, 24) == read(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("part-*"))) == 24
    assert not list((tmp_path / "out").glob(".*"))


def test_finished_partitions_are_not_computed_again(client, saved, tmp_path):
    calls, out = tmp_path / "calls", tmp_path / "out"
    calls.touch()
    table = lazy_frame(PARTS, ROWS, calls=str(calls))

    def stop(scores):
        if scores.computed == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(saved, table, out, keep=["id"], scheduler=client, progress=stop)
    time.sleep(0.5)  # what was under way ends
    there = {int(p.stem[-6:]) for p in out.glob("part-*")}
    assert 4 <= len(there) < PARTS
    calls.write_text("")
    with pytest.raises(ConfigError, match="pass resume=True"):
        predict(saved, table, out, keep=["id"], scheduler=client)
    scores = predict(saved, table, out, keep=["id"], scheduler=client, resume=True)
    asked = sorted(map(int, calls.read_text().split()))
    assert sorted(set(range(PARTS)) - there) == asked
    assert (len(there), PARTS - len(there)) == (scores.finished, scores.computed)
    assert scores.rows == PARTS * ROWS
    assert expected_of(saved) == read(out)
    other = lazy_frame(PARTS, ROWS + 1, calls=str(calls))
    with pytest.raises(ConfigError, match="of another table: choose"):
        predict(saved, other, out, keep=["id"], scheduler=client, resume=True)


def test_a_damaged_part_is_computed_again(client, saved, tmp_path):
    table, out = lazy_frame(3, ROWS), tmp_path / "out"
    predict(saved, table, out, keep=["id"], scheduler=client)
    (out / "part-000001.parquet").write_bytes(b"PAR1")
    scores = predict(saved, table, out, keep=["id"], scheduler=client, resume=True)
    assert (scores.finished, scores.computed) == (2, 1)
    assert expected_of(saved, 3) == read(out)


def test_a_partition_that_fails_is_named_and_the_others_are_kept(
    client, saved, tmp_path
):
    out = tmp_path / "out"
    table = lazy_frame(PARTS, ROWS, spoiled=5)
    with pytest.raises(DataError) as caught:
        predict(saved, table, out, scheduler=client)
    message = str(caught.value)
    assert message.startswith("predict: partition 5: TableTransform: expected a number")
    assert "1 of 12 partitions failed (5), 11 are in" in message
    assert len(list(out.glob("part-*"))) == 11


def test_outputs_without_classes_and_arrays_and_bags(client, tmp_path):
    import dask.bag as db

    model = nn.Sequential(nn.Dense(COLUMNS, 1))
    model.init(sl.Rng(0))
    path = tmp_path / "model.safetensors"
    sl.save(model, path, classes=None)
    x = np.concatenate([rows_of(i, ROWS) for i in range(4)])
    expected = sl.train.predict(model, x)[:, 0].astype("f8").tolist()
    predict(path, lazy_rows(4, ROWS), tmp_path / "array", scheduler=client)
    assert {"output": expected} == read(tmp_path / "array")
    records = db.from_sequence(x.tolist(), npartitions=3)
    few = records.filter(lambda row: row[0] < 2 * ROWS)  # and a partition is empty
    predict(path, few, tmp_path / "bag", scheduler=client, keep=[])
    actual = read(tmp_path / "bag")["output"]  # in other batches: to rounding
    np.testing.assert_allclose(actual, expected[: 2 * ROWS], rtol=1e-5, atol=1e-6)
    predict(model, lazy_rows(4, ROWS), tmp_path / "layer", scheduler=client)
    with_layer = read(tmp_path / "layer")
    assert expected == with_layer["output"]


def test_an_empty_partition_has_a_file_of_the_same_columns(client, saved, tmp_path):
    table = lazy_frame(3, ROWS)
    few = table[table["id"] < 50]
    scores = predict(saved, few, tmp_path / "out", keep=["id"], scheduler=client)
    assert scores.rows == 50
    files = sorted((tmp_path / "out").glob("part-*"))
    schemas = [parquet.read_schema(path).remove_metadata() for path in files]
    assert schemas[0] == schemas[2]
    assert parquet.read_metadata(files[2]).num_rows == 0


def test_parquet_and_csv_files_are_tables(client, saved, tmp_path):
    import pandas as pd

    frame = pd.concat([raw_frame(i, ROWS) for i in range(4)])
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=ROWS)
    frame.to_csv(tmp_path / "t.csv", index=False)
    expected = expected_of(saved, 4)
    predict(
        saved, tmp_path / "t.parquet", tmp_path / "a", keep=["id"], scheduler=client
    )
    assert expected == read(tmp_path / "a")
    predict(saved, tmp_path / "t.csv", tmp_path / "b", keep=["id"], scheduler=client)
    actual = read(tmp_path / "b")
    assert expected["class"] == actual["class"]
    assert expected["id"] == list(map(int, actual["id"]))


class Own(nn.Layer):
    """A layer that no file can name."""

    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"keep": ["nothing"]}, "keep: no column 'nothing', there are id, size"),
        ({"keep": "id"}, r"keep=\['id'\]"),
        ({"batch_size": 0}, "batch_size"),
        ({"table": 5}, "expected a Dask array, bag or dataframe"),
        ({"model": Own()}, "layers of your own"),
        ({"encoder": TableTransform()}, "brings its own encoder"),
    ],
)
def test_what_cannot_be_scored_is_named(client, saved, tmp_path, options, match):
    given = {"model": saved, "table": lazy_frame(2, 5), "out": tmp_path / "out"}
    with pytest.raises(SillarError, match=match):
        predict(**(given | {"scheduler": client} | options))


def test_a_folder_with_other_files_is_refused(client, saved, tmp_path):
    with pytest.raises(ConfigError, match="expected an empty folder"):
        predict(saved, lazy_frame(2, 5), tmp_path, scheduler=client)


def test_a_folder_that_workers_do_not_see_is_named(client, saved, tmp_path):
    """The folder goes away once the first partition asks for it."""
    out = tmp_path / "out"

    def away(scores):
        if scores.computed == 1:
            os.rename(out, tmp_path / "moved")

    with pytest.raises(DataError, match="does not see the folder"):
        predict(
            *(saved, lazy_frame(4, 5, seconds=0.2), out),
            **{"scheduler": client, "progress": away},
        )


def test_the_manifest_says_what_the_scores_are_of(client, saved, tmp_path):
    import hashlib

    predict(saved, lazy_frame(2, 5), tmp_path / "out", scheduler=client)
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert hashlib.sha256(saved.read_bytes()).hexdigest() == found["model"]
    assert (found["partitions"], found["keep"]) == (2, [])


def most_memory():
    """Return the most that a worker has held; `getrusage` counts its parent's, too."""
    from pathlib import Path

    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_a_table_larger_than_the_cluster_is_scored_in_its_memory(client, tmp_path):
    model = nn.Sequential(nn.Dense(COLUMNS, 1))
    model.init(sl.Rng(0))
    rows = 200_000
    table = lazy_rows(140, rows)
    client.restart()  # what earlier tests took of the workers' memory does not count
    workers = client.scheduler_info()["workers"].values()
    assert table.nbytes > 1.05 * sum(worker["memory_limit"] for worker in workers)
    options = {"scheduler": client, "batch_size": 10_000}
    assert 140 * rows == predict(model, table, tmp_path / "out", **options).rows
    assert max(client.run(most_memory).values()) < 400 * 2**20
