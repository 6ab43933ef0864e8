"""Workers: the same batches, memory that comes back, and faults that have a name."""

import ast
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import odd_rows
import psutil
import pytest

from sillar.data import DataLoader, Dataset
from sillar.errors import ConfigError, DataError

MEMORY = Path("/dev/shm")


def data(n=50, dtype="float32"):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3, 2)).astype(dtype)
    return Dataset(x, rng.integers(0, 5, (n, 2)))


def odd(event, n=40, row=17, kind=odd_rows.Odd):
    return Dataset(kind(n, row, event), np.arange(n))


def blocks(pid=None):
    """Return the blocks of shared memory that a process has made, by default this."""
    return {path.name for path in MEMORY.glob(f"sillar_{pid or os.getpid()}_*")}


def children():
    """Return our worker processes; other libraries name theirs."""
    running = multiprocessing.active_children()
    return {p.pid for p in running if not p.name.startswith("Dask")}


@pytest.fixture(autouse=True)
def _nothing_is_left():
    """After every test: no block of memory and no worker is left behind."""
    before, running = blocks(), children()
    yield
    gc.collect()
    assert blocks() <= before
    assert children() <= running


def assert_same(expected, got):
    assert len(expected) == len(got)
    for one, other in zip(expected, got, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype
            assert a.tobytes() == b.tobytes()
            assert a.shape == b.shape


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_batches_are_the_same_to_the_bit_with_any_number_of_workers(workers, dtype):
    plain = DataLoader(data(dtype=dtype), 7, shuffle=True, seed=3)
    with DataLoader(data(dtype=dtype), 7, shuffle=True, seed=3, workers=workers) as it:
        for epoch in (0, 5, 1):
            assert_same(list(plain.epoch(epoch)), list(it.epoch(epoch)))


@pytest.mark.parametrize("workers", [0, 2, 4])
def test_an_epoch_goes_on_from_any_batch(workers):
    whole = list(DataLoader(data(), 7, shuffle=True).epoch(2))
    with DataLoader(data(), 7, shuffle=True, workers=workers) as loader:
        for start in (0, 3, len(whole) - 1, len(whole), len(whole) + 2):
            assert_same(whole[start:], list(loader.epoch(2, start)))


def test_stored_rows_reach_workers_too():
    stored = odd(None, row=-1)
    part = stored[::-3]
    expected = [y.tolist() for _, y in DataLoader(part, 4)]
    with DataLoader(part, 4, workers=2) as loader:
        batches = list(loader)
    assert expected == [y.tolist() for _, y in batches]
    for x, y in batches:
        np.testing.assert_array_equal(x, np.stack([y, y], axis=1))


def test_a_batch_can_be_made_again():
    loader = DataLoader(data(), 7, shuffle=True, seed=1)
    for number, batch in enumerate(loader.epoch(4)):
        assert_same([batch], [loader.batch(4, number)])
    with pytest.raises(ConfigError, match=r"batch must be below 8, .*got 8"):
        loader.batch(4, 8)


def test_batches_have_memory_of_their_own():
    with DataLoader(data(), 7, workers=2) as loader:
        batches = list(loader)
        for x, _ in batches:
            x *= 0
        assert_same(list(DataLoader(data(), 7)), list(loader.epoch(0)))


def test_an_epoch_that_is_left_early_disturbs_no_other():
    plain = DataLoader(data(), 7, shuffle=True)
    with DataLoader(data(), 7, shuffle=True, workers=2) as loader:
        for left_after in (1, 2, 5):
            for number, _ in enumerate(loader.epoch(0), 1):
                if number == left_after:
                    break
            assert_same(list(plain.epoch(3)), list(loader.epoch(3)))


def test_two_epochs_side_by_side_do_not_meet():
    plain = DataLoader(data(), 7, shuffle=True)
    with DataLoader(data(), 7, shuffle=True, workers=2) as loader:
        pairs = list(zip(loader.epoch(0), loader.epoch(1), strict=True))
    assert_same(list(plain.epoch(0)), [one for one, _ in pairs])
    assert_same(list(plain.epoch(1)), [other for _, other in pairs])


def test_memory_comes_back_when_a_loader_is_forgotten():
    loader = DataLoader(data(), 7, workers=2)
    before = blocks()
    batches = loader.epoch(0)
    next(batches)
    assert len(blocks() - before) == 2
    del loader, batches
    gc.collect()
    assert blocks() <= before


def a_thousand_epochs():
    """Return bytes and open files of a process and its workers, early and late."""
    process = psutil.Process()
    with DataLoader(data(20), 7, shuffle=True, workers=2) as loader:
        sizes, files = [], []
        for epoch in range(1000):
            for _ in loader.epoch(epoch):
                pass
            if epoch in (99, 999):
                gc.collect()
                family = [process, *map(psutil.Process, children())]
                sizes.append(sum(one.memory_info().rss for one in family))
                files.append(process.num_fds())
    return sizes, files


def test_a_thousand_epochs_leave_memory_flat():
    """In a process of its own, whose memory nothing else takes or frees."""
    code = "from test_workers import a_thousand_epochs as run; print(run())"
    here = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        **{"capture_output": True, "text": True, "env": here},
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr
    sizes, files = ast.literal_eval(done.stdout)
    assert sizes[1] - sizes[0] < 2**21
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (odd_rows.die, "was killed by SIGKILL at row 17"),
        (odd_rows.leave, "ended with exit code 3 at row 17"),
        (odd_rows.sleep, "gave no sign of life for 4.. s at row 17"),
        (odd_rows.stop, "gave no sign of life for 4.. s at row 17"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_worker_that_dies_or_hangs_is_named_with_its_row(event, said):
    loader = DataLoader(odd(event), 5, workers=2)
    batches = loader.epoch(0)
    seen = [next(batches) for _ in range(3)]
    start = time.monotonic()
    pattern = rf"worker 1 \(process \d+\) {said}, where rows 15, 16, 17, 18, 19 of ep"
    with pytest.raises(DataError, match=pattern):
        next(batches)
    assert time.monotonic() - start < 5
    assert [y.tolist()[0] for _, y in seen] == [0, 5, 10]


def test_a_worker_that_somebody_kills_is_named():
    with DataLoader(odd(None, row=-1, kind=odd_rows.Slow), 10, workers=2) as loader:
        batches = loader.epoch(0)
        next(batches)
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        start = time.monotonic()
        with pytest.raises(DataError, match=r"killed by SIGKILL at row \d+, where row"):
            list(batches)
        assert time.monotonic() - start < 5
        assert len(list(loader.epoch(0))) == 4  # new workers


def test_rows_that_are_slow_but_sure_are_waited_for():
    slow = odd(None, n=20, row=-1, kind=odd_rows.Slow)
    with DataLoader(slow, 10, workers=1, timeout=0.5) as loader:
        assert [len(y) for _, y in loader] == [10, 10]


def test_workers_read_beside_one_another():
    """24 rows of 0.1 s take 2.4 s one after the other."""
    slow = odd(None, n=24, row=-1, kind=odd_rows.Slow)
    with DataLoader(slow, 2, workers=4) as loader:
        next(loader.epoch(0, 11))  # they have started
        start = time.monotonic()
        assert len(list(loader.epoch(0))) == 12
        assert time.monotonic() - start < 1.6


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_row_names_the_row(workers):
    said = "row 17 cannot be read: LookupError: no such flow"
    with DataLoader(odd(odd_rows.fail), 5, workers=workers) as loader:
        with pytest.raises(DataError, match=said) as caught:
            list(loader)
        if workers:
            assert "in fail" in caught.value.__notes__[0]
        with pytest.raises(DataError, match=said):
            list(loader.epoch(0))
    with (
        DataLoader(odd(None, kind=odd_rows.Ragged), 5, workers=workers) as loader,
        pytest.raises(DataError, match=r"row 17.*expected an example \(2,\), got \(3"),
    ):
        list(loader)


def test_a_script_without_its_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\nfrom sillar.data import DataLoader, Dataset\n"
        "print(len(list(DataLoader(Dataset(np.eye(4), np.arange(4)), 2, workers=1))))"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "needs the line if __name__ == '__main__'" in done.stderr


ENDINGS = {
    "normal": "",
    "error": "raise SystemExit(5)",
    "killed": "os.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_process_and_no_memory_outlive_the_parent(ending, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nimport numpy as np\nfrom sillar.data import DataLoader, Dataset\n"
        "if __name__ == '__main__':\n"
        "    loader = DataLoader(Dataset(np.eye(4), np.arange(4)), 2, workers=2)\n"
        "    batches = loader.epoch(0)\n"
        "    next(batches)\n"
        "    workers = batches.gi_frame.f_locals['pool'].workers\n"
        "    print(os.getpid(), *(w.process.pid for w in workers), flush=True)\n"
        f"    {ENDINGS[ending]}\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == {"normal": 0, "error": 5, "killed": -9}[ending]
    parent, *workers = map(int, done.stdout.split())
    assert len(workers) == 2
    limit = time.monotonic() + 5
    while blocks(parent) or any(map(psutil.pid_exists, workers)):
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert "leaked" not in done.stderr or ending == "killed"


def test_too_little_shared_memory_is_said_before_it_is_used():
    class Vast(odd_rows.Odd):
        def __init__(self):
            super().__init__(100, -1, None)
            self.shape = (100, 2**44)

    loader = DataLoader(Dataset(Vast(), np.arange(100)), 50, workers=2)
    with pytest.raises(ConfigError, match=r"bytes of shared memory.*pass workers=0"):
        next(loader.epoch(0))


@pytest.mark.parametrize("workers", [-1, 1.5, True, "2"])
def test_workers_are_counted_from_zero(workers):
    with pytest.raises(ConfigError, match="workers must be an integer of at least 0"):
        DataLoader(data(), workers=workers)


@pytest.mark.parametrize("timeout", [0, -1, "4", True])
def test_a_timeout_is_some_seconds(timeout):
    with pytest.raises(ConfigError, match="timeout must be seconds above 0"):
        DataLoader(data(), timeout=timeout)


def test_an_empty_data_set_needs_no_workers():
    with DataLoader(data(0), 7, workers=2) as loader:
        assert list(loader) == []
