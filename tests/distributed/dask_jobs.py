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
