"""Break whole models at random and check that loading them stays safe.

    python -m tests.train.fuzz_models --count 100000 --seed 0

As `tests.fuzz_files`, with changes to the described architecture on top: a broken file
must be refused with FormatError, or load as what its header and its arrays say.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import sillar as sl
from sillar import nn
from sillar.nn import initializers
from sillar.nn.architecture import INITIALIZERS, LAYERS, describe
from tests import fuzz_files
from tests.fuzz_files import ODD, Report, fuzz

WORDS = [
    *LAYERS,
    *INITIALIZERS,
    "Sequential",
    "type",
    "layers",
    "same",
    "fixed",
    "eval",
]
ALLOWANCE = 2**21  # bytes; Python's table of names alone takes 1 MiB when it grows
NUMBERS = [2, 3, 4, 8, 10**4000, 0.5, 1e308, -1e-9, False]


def models() -> list[nn.Layer]:
    """Return small models that have every kind of layer, argument and array."""
    kernels = np.random.default_rng(0).normal(size=(2, 2, 1, 3))
    image = nn.Sequential(
        nn.Conv2D(1, 4, 3, padding="same", fixed=False),
        nn.BatchNorm(4),
        nn.LeakyReLU(0.1),
        nn.MaxPool2D((2, 1), stride=2, padding=(1, 0)),
        nn.Conv2D(4, 2, (1, 2), groups=2, bias=False, dilation=(1, 2)),
        nn.Sequential(nn.AvgPool2D(2), nn.Flatten(), nn.ELU(alpha=0.5)),
    )
    features = nn.Sequential(
        nn.Dense(4, 8, initializer=initializers.orthogonal),
        *(nn.LayerNorm(8, affine=False), nn.GELU(approximate=True)),
        *(nn.Dropout(0.25), nn.Dense(8, 2, bias=False), nn.Softmax(axis=-1)),
    )
    fixed = nn.Sequential(nn.Conv2D(1, 3, 2, fixed=kernels, bias=False), nn.Tanh())
    words = nn.Sequential(nn.Embedding(5, 3), nn.Sigmoid())
    made = [image, features, fixed, words, nn.Sequential()]
    types = ["float32", "float64", "float32", "float64", "float32"]
    return [m.init(sl.Rng(0), dtype=t) for m, t in zip(made, types, strict=True)]


def edit_architecture(rng: random.Random, data: bytes) -> bytes:
    """Change the description of the model at one to three places."""
    text, rest = fuzz_files._split(data)
    try:
        table = json.loads(text)
        about = json.loads(table["__metadata__"]["sillar"])
        for _ in range(rng.choice([1, 1, 2, 3])):
            _edit(rng, about)
        table["__metadata__"]["sillar"] = json.dumps(about)
        return fuzz_files._join(json.dumps(table).encode(), rest)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return fuzz_files.flip_bits(rng, data)


def _edit(rng: random.Random, about: Any) -> None:
    slots = list(fuzz_files._slots(about))
    (box, key), (other, other_key) = rng.choice(slots), rng.choice(slots)
    if rng.random() < 0.5:
        box[key] = rng.choice([*WORDS, *NUMBERS, *ODD])
    elif rng.random() < 0.2:
        other[rng.choice(WORDS)] = box[key]
    else:
        fuzz_files._edit(rng, box, key, other, other_key)


def agrees(model: nn.Layer, data: bytes) -> None:
    """Check a loaded model against the official library and against its header."""
    from safetensors.numpy import load

    expected, actual = load(data), model.state()
    assert expected.keys() == actual.keys()
    for name, array in expected.items():
        assert (array.dtype, array.shape) == (actual[name].dtype, actual[name].shape)
        assert array.tobytes() == actual[name].tobytes()
    header = json.loads(fuzz_files._split(data)[0])
    about = json.loads(header["__metadata__"]["sillar"])
    assert within(about["architecture"], json.loads(json.dumps(describe(model))))


def within(given: Any, described: Any) -> bool:
    """Say whether all that a header gives is what the model says of itself."""
    if isinstance(given, dict):
        return all(within(value, described[name]) for name, value in given.items())
    if isinstance(given, list) and isinstance(described, list):
        pairs = zip(given, described, strict=True)
        return all(within(one, two) for one, two in pairs)
    return given == described and isinstance(given, bool) == isinstance(described, bool)


def fuzz_models(count: int, seed: int = 0, first: int = 0) -> Report:
    """Load `count` broken models."""
    files = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "whole.safetensors")
        for model in models():
            sl.save(model, path, classes=["benign", "malware"])
            files.append(path.read_bytes())
    mutations = [*fuzz_files.MUTATIONS, *[edit_architecture] * 12]
    with patch.object(fuzz_files, "MUTATIONS", mutations):
        return fuzz(
            sl.load,
            files,
            count=count,
            seed=seed,
            first=first,
            check=agrees,
            allowance=ALLOWANCE,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    print(fuzz_models(options.count, options.seed, options.first))
    print(f"{time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
