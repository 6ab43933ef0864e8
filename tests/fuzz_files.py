"""Break model files at random and check that reading them stays safe.

    python -m tests.fuzz_files --count 100000 --seed 0 [--model FILE]

A broken file must be refused with FormatError or load as the official library loads it;
any other exception is a failure, and so is memory beyond the size of the file plus what
its header may take (`HEADER_MEMORY`, or its share for smaller files) and ALLOWANCE.
Case i depends on (seed, i) alone: `--first i --count 1` runs it again.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sillar.errors import FormatError
from sillar.files import HEADER_LIMIT, HEADER_MEMORY, read_arrays, write_arrays

ALLOWANCE = 2**18  # bytes, for buffers and messages
ODD = [0, 1, 2, 7, 8, 255, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, -1, 1.5]
ODD += [1e300, True, None, "", "x", [], [0], [[1]], {}, {"a": 1}, {"__metadata__": "a"}]
DTYPES = ["BOOL", "U8", "I16", "F16", "BF16", "F32", "F8_E4M3", "C64", "f32", "O"]
NAMES = ["", "a", "__metadata__", "\ud800", "\x00", "a\U0001f600", "../../x", "a" * 500]
TOKENS = [b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 5000, b"[" * 3000, b"{}", b'"']
TOKENS += [b"\xef\xbb\xbf", b"\xff", b"\\ud800", b"\\", b"\0", b"null", b",", b" " * 99]

Mutation = Callable[[random.Random, bytes], bytes]


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    broken = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        if broken:
            broken[_place(rng, data) - 1] ^= 1 << rng.randrange(8)
    return bytes(broken)


def edit_bytes(rng: random.Random, data: bytes) -> bytes:
    place = _place(rng, data)
    new = rng.choice([rng.randbytes(rng.randint(1, 4)), b"\0", b"\xff", *TOKENS])
    return data[:place] + new + data[place + len(new) :]


def truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.choice([_place(rng, data), rng.randint(0, 16), len(data) - 1])]


def insert(rng: random.Random, data: bytes) -> bytes:
    place = rng.choice([_place(rng, data), 8, len(data)])
    new = rng.choice([rng.randbytes(rng.randint(1, 9)), *TOKENS])
    return data[:place] + new + data[place:]


def delete(rng: random.Random, data: bytes) -> bytes:
    place = _place(rng, data)
    return data[:place] + data[place + rng.randint(1, 20) :]


def edit_length(rng: random.Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    near = max(length + rng.choice([-9, -8, -1, 1, 8, 9]), 0)
    new = rng.choice([near, near, len(data), 0, 1, 2**20, 2**63, rng.getrandbits(64)])
    return new.to_bytes(8, "little") + data[8:]


def splice(rng: random.Random, data: bytes) -> bytes:
    """Join the file to a piece of itself."""
    start, end = sorted((_place(rng, data), _place(rng, data)))
    return data[: _place(rng, data)] + data[start:end] + data[_place(rng, data) :]


def edit_text(rng: random.Random, data: bytes) -> bytes:
    """Replace a piece of the header and repair its length."""
    text, rest = _split(data)
    start = rng.randint(0, len(text))
    end = start + rng.choice([0, 0, 1, 2, 5])
    return _join(text[:start] + rng.choice(TOKENS) + text[end:], rest)


def repeat_text(rng: random.Random, data: bytes) -> bytes:
    """Repeat a piece of the header, most often a whole entry, and repair its length."""
    text, rest = _split(data)
    stops = [0, *(i + 1 for i, byte in enumerate(text) if byte in b"{},[]")]
    start, end = sorted((rng.choice(stops), rng.choice(stops)))
    return _join(
        text[:end] + text[start:end] * rng.choice([1, 1, 2, 50]) + text[end:], rest
    )


def edit_json(rng: random.Random, data: bytes) -> bytes:
    """Change the header's meaning at one place: a shape, offset, dtype or name."""
    text, rest = _split(data)
    try:
        table = json.loads(text)
        slots = list(_slots(table))
        _edit(rng, *rng.choice(slots), *rng.choice(slots))
        return _join(json.dumps(table).encode(), rest)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return flip_bits(rng, data)  # the edit does not fit, or nothing is left of it


def _slots(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container and key in a JSON tree."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in pairs:
        yield node, key
        if isinstance(value, dict | list):
            yield from _slots(value)


def _edit(rng: random.Random, box: Any, key: Any, other: Any, other_key: Any) -> None:
    match rng.randrange(7):
        case 0:
            box[key] = rng.choice([*ODD, *DTYPES])
        case 1:
            box[key], other[other_key] = other[other_key], box[key]
        case 2:
            box[key] += rng.choice([-8, -1, 1, 8, 2**40])
        case 3:
            box[key].insert(0, rng.choice([1, 1, *ODD]))
        case 4:
            box[rng.choice(NAMES)] = box.pop(key)
        case 5:
            box[key].reverse()
        case 6:
            step = rng.choice([1, 2, 8])
            box[key][:] = [number + step for number in box[key]]


MUTATIONS: list[Mutation] = [flip_bits, edit_bytes, truncate, insert, delete]
MUTATIONS += [edit_length, splice, edit_text, repeat_text, *[edit_json] * 6]


def _place(rng: random.Random, data: bytes) -> int:
    """Return a place in the file, most often in its header."""
    end = 8 + int.from_bytes(data[:8], "little") if rng.random() < 0.5 else len(data)
    return rng.randint(0, min(end, len(data)))


def _split(data: bytes) -> tuple[bytes, bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    return data[8:end], data[end:]


def _join(text: bytes, rest: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text + rest


def broken(files: Sequence[bytes], seed: int, case: int) -> tuple[str, bytes]:
    """Return the names of the mutations of this case, and what they left of a file."""
    rng = random.Random(f"{seed}/{case}")
    data = rng.choice(files)
    mutations = rng.choices(MUTATIONS, k=rng.choice([1, 1, 1, 2, 3]))
    for mutation in mutations:
        data = mutation(rng, data)
    return "+".join(mutation.__name__ for mutation in mutations), data


@dataclass
class Report:
    """What the cases came to; memory is counted above the size of the file."""

    loaded: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    peak: int = 0
    slowest: float = 0.0

    def __str__(self) -> str:
        refused = self.refused.total()
        lines = [
            f"{self.loaded} loaded right, {refused} refused",
            f"peak {self.peak} bytes above the file, slowest {self.slowest:.3f} s",
            *(f"{n:8}  {reason}" for reason, n in self.refused.most_common()),
        ]
        return "\n".join(lines)


def fuzz(
    load: Callable[[str], Any],
    files: Sequence[bytes],
    *,
    count: int,
    seed: int = 0,
    first: int = 0,
    check: Callable[[Any, bytes], None] = lambda result, data: None,
    allowance: int = ALLOWANCE,
) -> Report:
    """Call `load` on `count` broken `files`; `check` what it accepts."""
    report = Report()
    tracemalloc.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "broken.safetensors"))
            for case in range(first, first + count):
                how, data = broken(files, seed, case)
                try:
                    _run(load, path, data, check, allowance, report)
                except Exception as error:
                    raise AssertionError(
                        f"seed {seed}, case {case} ({how}): {error!r}"
                    ) from error
    finally:
        tracemalloc.stop()
    return report


def _run(load, path, data, check, allowance, report):
    Path(path).write_bytes(data)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    start = time.perf_counter()
    result, reason = None, ""
    try:
        result = load(path)
    except FormatError as error:
        reason = str(error)
    extra = tracemalloc.get_traced_memory()[1] - before - len(data)
    header_memory = min(len(data) / HEADER_LIMIT, 1) * HEADER_MEMORY
    report.slowest = max(report.slowest, time.perf_counter() - start)
    report.peak = max(report.peak, extra)
    assert extra <= header_memory + allowance, f"{extra} bytes above {len(data)}"
    if reason:
        assert path in reason, reason
        assert len(reason) < 2000, reason
        report.refused[_kind(reason, path)] += 1
    else:
        check(result, data)
        report.loaded += 1


def _kind(reason: str, path: str) -> str:
    """Return the fixed words at the start of a message."""
    words = reason.removeprefix(f"read {path!r}: expected ").split(", got")[0].split()
    return " ".join([word for word in words if word.isalpha()][:5])


def agree_with_safetensors(
    result: tuple[dict[str, np.ndarray], dict[str, str]], data: bytes
) -> None:
    """Check what `read_arrays` returned against the official library."""
    from safetensors.numpy import load

    arrays, metadata = result
    expected = load(data)
    assert expected.keys() == arrays.keys()
    for name, array in expected.items():
        actual = arrays[name]
        assert (array.dtype, array.shape) == (actual.dtype, actual.shape), name
        assert array.tobytes() == actual.tobytes(), name
        assert actual.flags.writeable
    assert json.loads(_split(data)[0]).get("__metadata__", {}) == metadata


def valid_files() -> list[bytes]:
    """Return small whole files: every dtype, odd shapes, a model, nothing."""
    rng = np.random.default_rng(0)
    every = {f"of.{code}": np.arange(6).astype(code) % 2 for code in "?BHILbhilefd"}
    odd = {"scalar": np.float32(1), "empty": np.zeros((0, 3)), "bits": np.ones(3, bool)}
    model = {"weight": rng.normal(size=(64, 10)).astype("f4"), "bias": np.zeros(10)}
    files = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "whole.safetensors")
        for arrays in (every, odd, model, {}):
            write_arrays(path, arrays, {"config": '{"a": [1, "b"]}'} if arrays else {})
            files.append(path.read_bytes())
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--model", type=Path, help="the file to break")
    options = parser.parse_args()
    files = [options.model.read_bytes()] if options.model else valid_files()
    start = time.perf_counter()
    report = fuzz(
        read_arrays,
        files,
        count=options.count,
        seed=options.seed,
        first=options.first,
        check=agree_with_safetensors,
    )
    print(report)
    print(f"{time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
