"""What a run depends on besides its recipe: versions, processor, linear algebra."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sillar import __version__

FLAGS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni")


def environment() -> dict[str, Any]:
    """Return what a record says of the machine."""
    return {
        "versions": versions("numpy"),
        "platform": platform.platform(),
        "processor": processor()["name"],
        "blas": blas(),
    }


def backend(training: dict[str, Any]) -> dict[str, Any]:
    """Return what a record says of the back end: its name, version and device."""
    name = training["backend"]
    device = training["device"]
    return {"name": name, "version": library_version(name), "device": device}


def versions(*libraries: str) -> dict[str, str | None]:
    """Return the versions of Sillar, Python and some libraries."""
    found = {name: library_version(name) for name in libraries}
    return {"sillar": __version__, "python": platform.python_version(), **found}


def library_version(name: str) -> str | None:
    """Return the version of an installed library, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def blas() -> list[dict[str, Any]]:
    """Return each loaded linear algebra library: name, version, kernel and threads."""
    from threadpoolctl import threadpool_info

    return [
        {
            "name": pool["internal_api"],
            "version": pool.get("version"),
            "kernel": pool.get("architecture"),
            "threads": pool["num_threads"],
        }
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]


def cores() -> dict[str, int]:
    """Return how many cores the machine has, and how many this process may use."""
    total = os.cpu_count() or 1
    if not hasattr(os, "sched_getaffinity"):
        return {"machine": total, "usable": total}
    usable = len(os.sched_getaffinity(0))
    quota = _quota()
    return {"machine": total, "usable": min(usable, quota) if quota else usable}


def processor() -> dict[str, Any]:
    """Return the processor's name and those of its instruction sets that matter."""
    about = {}
    for line in _lines("/proc/cpuinfo"):
        key, _, value = line.partition(":")
        about.setdefault(key.strip(), value.strip())
    flags = about.get("flags", about.get("Features", "")).split()
    name = about.get("model name") or platform.processor() or platform.machine()
    return {"name": name, "flags": [flag for flag in FLAGS if flag in flags]}


def memory() -> dict[str, int | None]:
    """Return the bytes of memory in all and still to be had, where the system says."""
    about = {}
    for line in _lines("/proc/meminfo"):
        key, _, value = line.partition(":")
        about[key] = int(value.split()[0]) * 1024
    return {"total": about.get("MemTotal"), "available": about.get("MemAvailable")}


def _quota() -> int | None:
    """Return how many cores a container leaves us, or None where nothing says."""
    words = " ".join(_lines("/sys/fs/cgroup/cpu.max")).split()
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        return None
    return max(1, round(int(words[0]) / int(words[1])))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
