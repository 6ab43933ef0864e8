"""Train on a Dask array larger than the memory that this process may have.

A child process of `test_dask_source.py`: python dask_memory.py ADDRESS.
"""

import json
import resource
import sys
from pathlib import Path

import dask.array as da

import sillar as sl
from sillar import nn
from sillar.distributed.dask import open_dask

LIMIT = 400 * 10**6  # bytes of private memory
PARTS, ROWS, WIDTH = 90, 5_000, 500  # 10 MB a partition, 900 MB in all


def most_memory():
    """Return the most that this program has held, in bytes.

    `getrusage` would also count what its parent held when it started this program.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main(address):
    """Open, train one epoch, predict; say what memory it took."""
    size, chunks = (PARTS * ROWS, WIDTH), (ROWS, WIDTH)
    x = da.random.default_rng(0).random(size, dtype="float32", chunks=chunks)
    y = (x[:, 0] > 0.5).astype("u1")
    data = open_dask(x, target=y, scheduler=address)
    model = nn.Sequential(nn.Dense(WIDTH, 1))
    run = sl.fit(
        *(model, nn.BinaryCrossEntropy(), sl.Adam(1e-2), data),
        **{"epochs": 1, "batch_size": 1000, "callbacks": ()},
    )
    peak = most_memory()
    found = {"bytes": data.x.nbytes, "rows": len(data), "steps": run.step}
    print(json.dumps(found | run.metrics | {"peak": peak}))
    data.x.close()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    main(sys.argv[1])
