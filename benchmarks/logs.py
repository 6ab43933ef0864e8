"""Live logs: lines a second, delay of a window, and memory over many lines.

    python -m benchmarks.logs --data DIR [--system OpenSSH ...] [--lines 10000000]
                              [--keep]

DIR is the folder of loghub-2k. Lines are drawn from a system's real ones with their
digits drawn anew; the model, an autoencoder of windows of 100 lines, is trained on the
first 1,200. One thread: parse, score, and scores on the disk with fsync.

Rate: a file that is there. Memory: a file that is read until so many lines are scored,
written ahead by another process and cut as it is read. Delay: another process writes
lines at 10,000 a second; a window's delay is from the moment its last line was in the
file until its score is on the disk.
"""

import argparse
import csv
import io
import lzma
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1"))

import numpy as np

import sillar as sl
from benchmarks.machine import keep
from sillar import nn
from sillar.data import LogWindows
from sillar.streams import Follower, follow

SYSTEMS = ("OpenSSH", "HDFS", "Linux", "BGL", "Zookeeper")
BAR_RATE, BAR_DELAY = 100_000, 0.050
WINDOW, PACE = 100, 10_000
WRITER = """
import sys, time
path, block, count, pace = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
lines = open(block, "rb").read().splitlines(keepends=True)
step = pace // 100
with open(path, "ab", buffering=0) as file:
    start, place = time.time(), 0
    for i in range(count // step):
        file.write(b"".join(lines[place : place + step]))
        print(time.time(), file.tell(), flush=True)
        place = (place + step) % (len(lines) - step)
        time.sleep(max(0.0, start + (i + 1) / 100 - time.time()))
"""


def real_lines(folder: Path, system: str) -> list[str]:
    """Return the raw lines of one system."""
    packed = (folder / "loghub_2k.csv.xz").read_bytes()
    text = lzma.decompress(packed).decode()
    rows = csv.DictReader(io.StringIO(text))
    return [row["raw"] for row in rows if row["system"] == system]


def generated(real: list[str], count: int, seed: int = 0) -> bytes:
    """Return lines like real ones, each with digits of its own."""
    rng = random.Random(seed)

    def digit(_: re.Match[str]) -> str:
        return rng.choice("0123456789")

    drawn = (re.sub("[0-9]", digit, rng.choice(real)) for _ in range(count))
    return "".join(f"{line}\n" for line in drawn).encode()


def saved_model(real: list[str], folder: Path) -> Path:
    """Train an autoencoder of windows and save it."""
    windows = LogWindows(WINDOW).fit(real)
    x = windows(real)
    n = x.shape[1]
    layers = nn.Dense(n, 16), nn.ReLU(), nn.Dense(16, n)
    data = sl.data.Dataset(x, x)
    model = nn.Sequential(*layers)
    sl.fit(model, nn.MSE(), sl.Adam(1e-2), data, epochs=50, callbacks=())
    path = folder / "model.safetensors"
    model = nn.Sequential(nn.ReconstructionError(*layers))
    sl.save(model, path, encoder=windows)
    return path


def rate(model: Path, block: bytes, folder: Path) -> float:
    """Return lines a second on a file that is there, the median of three."""
    logs = folder / "rate"
    logs.mkdir()
    (logs / "a.log").write_bytes(block * 3)
    found = []
    for turn in range(3):
        start = time.perf_counter()
        counts = follow(model, folder / f"rate{turn}.jsonl", folder=logs, once=True)
        found.append(counts.lines / (time.perf_counter() - start))
    return statistics.median(found)


def delays(model: Path, block: Path, folder: Path, seconds: int) -> list[float]:
    """Return the delay of each window of lines that come at a steady pace."""
    logs, out = folder / "delay", folder / "delay.jsonl"
    logs.mkdir()
    seen: list[tuple[float, int]] = []

    def note(records, counts):
        seen.extend((time.time(), record["end"]) for record in records)

    command = [sys.executable, "-c", WRITER, str(logs / "a.log"), str(block)]
    command += [str(PACE * seconds), str(PACE)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    follower = Follower(model, out, folder=logs, on_batch=note)
    while writer.poll() is None:
        follower.turn()
    follower.turn()
    follower.close()
    marks = [line.split() for line in writer.communicate()[0].splitlines()]
    moments = np.array([float(moment) for moment, _ in marks])
    ends = np.array([int(end) for _, end in marks])
    skip = len(seen) // 10  # the first scan finds the file late
    return [
        moment - float(moments[np.searchsorted(ends, end)])
        for moment, end in seen[skip:]
        if end <= ends[-1]
    ]


def resident() -> float:
    """Return the megabytes that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory(model: Path, block: bytes, folder: Path, lines: int) -> dict[str, float]:
    """Score so many lines, file after file; return the megabytes held, and the rate."""
    logs = folder / "memory"
    logs.mkdir()
    per_file = block.count(b"\n")
    follower = Follower(model, folder / "memory.jsonl", folder=logs)
    start, held, number = time.perf_counter(), [], 0
    while follower.counts.lines + WINDOW < lines:
        if number * per_file < lines and len(list(logs.iterdir())) < 3:
            other = block.replace(b"0", b"%d" % (number % 10))  # another first line
            (logs / f"{number:05}.log").write_bytes(b"file %d\n" % number + other)
            number += 1
        follower.turn()
        done = follower.counts.lines
        if done // 250_000 > len(held):
            held.append(resident())
        for path in sorted(logs.iterdir())[:-1]:
            source = [s for s in follower.journal.places if s.startswith(path.name)]
            ends = [follower.journal.places[s]["end"] for s in source]
            if ends and path.stat().st_size - max(ends) < 100 * 2000:
                path.unlink()
    seconds = time.perf_counter() - start
    follower.close()
    quarter = held[len(held) // 4 :]
    return {
        "lines": follower.counts.lines,
        "seconds": round(seconds, 1),
        "megabytes": round(max(held), 1),
        "growth": round(max(quarter) - quarter[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--system", nargs="+", default=SYSTEMS)
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--keep", action="store_true", help="write into results/")
    options = parser.parse_args()
    found = {}
    for system in options.system:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            real = real_lines(options.data, system)
            model = saved_model(real[:1200], folder)
            block = generated(real, 100_000)
            (folder / "block").write_bytes(block)
            row = {"lines_per_second": round(rate(model, block, folder))}
            late = delays(model, folder / "block", folder, options.seconds)
            p50, p99 = np.quantile(late, [0.5, 0.99])
            row |= {
                "p50_ms": round(float(p50) * 1e3, 1),
                "p99_ms": round(float(p99) * 1e3, 1),
            }
            row["windows"] = len(late)
            if system == options.system[0]:
                row["memory"] = memory(model, block, folder, options.lines)
            found[system] = row
            print(system, row, flush=True)
    met = all(
        row["lines_per_second"] >= BAR_RATE and row["p99_ms"] < BAR_DELAY * 1e3
        for row in found.values()
    )
    print(f"bars: {BAR_RATE:,} lines/s, p99 {BAR_DELAY * 1e3:.0f} ms: met: {met}")
    if options.keep:
        print(keep("logs", {"window": WINDOW, "systems": found, "met": met}))


if __name__ == "__main__":
    main()
