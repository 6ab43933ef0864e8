"""What the tests of Dask run on its workers, which import it by name."""

import time

import numpy as np

COLUMNS = 8


def rows_of(number, rows, *, seconds=0.0):
    """Return rows with an id of their own and numbers drawn from (number)."""
    time.sleep(seconds)
    x = np.random.default_rng(number).normal(size=(rows, COLUMNS)).astype("float32")
    x[:, 0] = number * rows + np.arange(rows)
    return x


def lazy_rows(parts, rows, seconds=0.0):
    """Return a Dask array whose partitions are made by `rows_of` on the workers."""
    import dask.array as da
    from dask import delayed

    make = delayed(rows_of, pure=True)
    blocks = [
        da.from_delayed(make(i, rows, seconds=seconds), (rows, COLUMNS), "float32")
        for i in range(parts)
    ]
    return da.concatenate(blocks)


def raw_frame(number, rows, *, seconds=0.0, spoiled=-1, calls=None):
    """Return rows of text and numbers with ids; note in a file that it was asked."""
    import pandas as pd

    time.sleep(seconds)
    if calls is not None:
        with open(calls, "a") as file:
            file.write(f"{number}\n")
    x = rows_of(number, rows)
    frame = pd.DataFrame({"id": x[:, 0].astype("int64"), "size": x[:, 1].astype("f8")})
    frame["service"] = np.where(x[:, 2] > 0, "http", "dns")
    if number == spoiled:
        frame["size"] = "many"
    return frame


def lazy_frame(parts, rows, **options):
    """Return a Dask dataframe made by `raw_frame` on the workers."""
    import dask.dataframe as dd

    meta = raw_frame(0, 0)
    numbers = range(parts)
    return dd.from_map(raw_frame, numbers, rows=rows, meta=meta, **options)


def fitted(train, test, fold):
    """Train a small network and return its metrics on the test rows."""
    import sillar as sl
    from sillar import nn

    model = nn.Sequential(nn.Dense(4, 16), nn.ReLU(), nn.Dense(16, 2))
    sl.fit(
        *(model, sl.CrossEntropy(), sl.Adam(1e-2), train),
        **{"epochs": 3, "seed": fold, "callbacks": ()},
    )
    found = sl.evaluate(model, test, loss=sl.CrossEntropy())
    return {name: found[name] for name in ("loss", "accuracy")}


def slow(train, test, fold):
    """Take a while, and tell the rows tested on by their sum."""
    time.sleep(0.4)
    return {"rows": float(test.x[:, 0].sum()), "fold": fold}


def broken(train, test, fold):
    """Fail in the second fold."""
    if fold == 1:
        raise ArithmeticError("no fold 1")
    return {"accuracy": 1.0}


def tried(dataset, setting):
    """Return a parabola around lr = 3; note that it was asked."""
    if "calls" in setting:
        with open(setting["calls"], "a") as file:
            file.write(f"{setting['lr']}\n")
    if setting["lr"] == 5:
        raise FloatingPointError("lr 5 diverges")
    if setting["lr"] == 4:
        return {"loss": float("nan")}
    time.sleep(setting.get("seconds", 0))
    return {"loss": (setting["lr"] - 3) ** 2 + setting.get("width", 0) / 100}
