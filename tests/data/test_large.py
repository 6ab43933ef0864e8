"""Files of 2 GB, read by a process that may have no more than 500 MB of memory."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from large_file import LIMIT, SIZE

SCRIPT = Path(__file__).with_name("large_file.py")
SHARES = {".npy": 1.0, ".csv": 1.0, ".parquet": 1.0}  # of the rows to read
QUIET = {"MALLOC_ARENA_MAX": "1"}


def child(*arguments):
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **QUIET, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("ending", SHARES)
def test_two_gigabytes_are_read_in_500_megabytes(ending, tmp_path):
    """RLIMIT_DATA holds private memory down, and the peak counts mapped files too."""
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    if shutil.disk_usage(tmp_path).free < 2 * SIZE:
        pytest.skip("no room for a file of 2 GB")
    path = tmp_path / f"large{ending}"
    try:
        child("make", path, 0)
        found = json.loads(child("read", path, SHARES[ending]))
    finally:
        path.unlink(missing_ok=True)
    assert found["size"] >= SIZE
    assert found["seen"] >= found["rows"] * SHARES[ending]
    assert found["wrong"] == 0
    assert found["peak"] < LIMIT
    assert found["classes"] == (None if ending == ".npy" else ["attack", "benign"])
