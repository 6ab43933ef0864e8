"""Make or read a file of 2 GB; a child process of `test_large.py` does either."""

import json
import resource
import sys
from pathlib import Path

import numpy as np

from sillar.data import DataLoader, Dataset, open_csv, open_npy, open_parquet

LIMIT = 500 * 10**6  # bytes
SIZE = 2 * 10**9
WIDTH = 1000
VALUES = np.arange(WIDTH) % 97


def make(path):
    """Write SIZE bytes or more; a row tells its number, modulo 1000."""
    if path.suffix == ".npy":
        rows = SIZE // (4 * WIDTH)
        with open(path, "wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (rows, WIDTH)}
            np.lib.format.write_array_header_1_0(file, header)
            block = np.tile(VALUES.astype("<f4"), (1000, 1))
            block[:, 0] = np.arange(1000)
            for _ in range(rows // 1000):
                block.tofile(file)
    elif path.suffix == ".csv":
        tail = ",".join(f"{v:.4f}" for v in VALUES[1:])
        lines = [f"{i},{tail},{'attack' if i % 3 else 'benign'}\n" for i in range(1000)]
        block = "".join(lines).encode()
        with open(path, "wb") as file:
            for _ in range(SIZE // len(block) + 1):
                file.write(block)
    else:
        import pyarrow as pa
        from pyarrow import parquet

        columns = {f"c{i}": np.full(10_000, i % 97, "f4") for i in range(1, 400)}
        columns["c0"] = np.arange(10_000, dtype="f4") % 1000
        columns["kind"] = np.where(np.arange(10_000) % 3, "attack", "benign")
        table = pa.table(columns)
        plain = {"compression": "none", "use_dictionary": False}
        with parquet.ParquetWriter(path, table.schema, **plain) as writer:
            while not path.exists() or path.stat().st_size < SIZE:
                writer.write_table(table)


def read(path, share):
    """Iterate a share of the rows in order, then some at random; say what it took."""
    if path.suffix == ".npy":
        x = open_npy(path)
        data = Dataset(x, np.zeros(len(x), "u1"))
    else:
        opening = open_csv if path.suffix == ".csv" else open_parquet
        data = opening(path, target="kind" if path.suffix != ".csv" else -1)
    first = 0 if path.suffix != ".parquet" else 399  # column of the row's number
    wrong = seen = 0
    start = len(data) - int(len(data) * share)
    for part, shuffle in ((data[start:], False), (data[:: len(data) // 32], True)):
        origin = np.arange(start, len(data)) if not shuffle else None
        place = 0
        for x, _ in DataLoader(part, 500, shuffle=shuffle):
            if origin is not None:
                expected = origin[place : place + len(x)] % 10_000 % 1000
                wrong += int((x[:, first] != expected).sum())
            wrong += int((x[:, 5] != (5 if first == 0 else 6)).sum())
            place += len(x)
        seen += place
    return {"rows": len(data), "seen": seen, "wrong": wrong, "classes": data.classes}


def peak():
    """Return the most memory this process has had, mapped files included, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    task, path, share = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    if task == "make":
        make(path)
    else:
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
        found = read(path, share)
        print(json.dumps({**found, "peak": peak(), "size": path.stat().st_size}))
