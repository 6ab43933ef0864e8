"""Time of several functions that take turns."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

REST = 0.05  # seconds: the others' threads spin on for a while after their turn
BURST = 0.04  # seconds of one turn, of at least two calls


def turns(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    """Return median milliseconds of a call, on the clock and of the processors.

    Each round gives each function a turn: a rest, one call that is not timed, and some
    that are. Besides, say how many cores other processes kept busy in the meantime:
    where that is not near 0, threads that wait for each other take many times as long.
    """
    begin, others = time.perf_counter(), worked() - own()
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(REST)
            start = time.perf_counter()
            call()
            count = max(2, int(BURST / (time.perf_counter() - start)))
            start, start_cpu = time.perf_counter(), time.process_time()
            for _ in range(count):
                call()
            wall[name].append((time.perf_counter() - start) / count)
            cpu[name].append((time.process_time() - start_cpu) / count)
    others = worked() - own() - others
    return {
        "milliseconds": _medians(wall),
        "cpu_milliseconds": _medians(cpu),
        "others_cores": round(max(0.0, others) / (time.perf_counter() - begin), 2),
    }


def worked() -> float:
    """Return the seconds that all cores of the machine have worked since its start."""
    ticks = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _waiting, *more = map(int, ticks)
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK")


def own() -> float:
    """Return the seconds that this process and its children have worked."""
    total = time.process_time()
    for tasks in Path("/proc/self/task").glob("*/children"):
        for child in tasks.read_text().split():
            fields = Path("/proc", child, "stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    return total


def _medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    return {k: round(statistics.median(v) * 1e3, 4) for k, v in seconds.items()}


def apart(values: Any, others: Any) -> float:
    """Return the largest difference, relative to values above 1."""
    pairs = zip(values, others, strict=True)
    return max(abs(a - b) / max(1.0, abs(b)) for a, b in pairs)
