"""What is trained and timed: data and sizes, without any library but NumPy.

`in_sillar.py`, `in_torch.py` and `in_jax.py` hold the same networks. Their first
weights are PyTorch's, drawn from a fixed seed, and every library takes them over.
"""

from typing import NamedTuple

import numpy as np

RATE = 1e-4  # of Adam. ReLU and max-pooling have kinks, where a value of 1e-8 rounds to
# either side and changes the gradient by a thousandth; larger steps make more of that.


class Workload(NamedTuple):
    """The shape of one input, of one target, the classes, and the batch."""

    network: str
    shape: tuple[int, ...]
    targets: tuple[int, ...]
    classes: int
    batch: int


WORKLOADS = {
    "small": Workload("small", (122,), (), 5, 64),
    "mlp": Workload("mlp", (784,), (), 10, 128),
    "cnn": Workload("cnn", (28, 28, 1), (), 10, 64),
    "lstm": Workload("lstm", (10, 1), (), 28, 2048),
    "lstm-small": Workload("lstm", (10, 1), (), 28, 64),
    "gpt": Workload("gpt", (64,), (64,), 65, 16),
    "convnet": Workload("convnet", (28, 28, 1), (), 10, 128),
    "resnet": Workload("resnet", (32, 32, 3), (), 10, 32),
}


def load(name: str, batch: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets, channels last; those of `gpt` are tokens."""
    work, rng = WORKLOADS[name], np.random.default_rng(0)
    n = batch or work.batch
    if work.network == "gpt":
        x = rng.integers(0, work.classes, (n, *work.shape))
    else:
        x = rng.uniform(size=(n, *work.shape)).astype("float32")
    return x, rng.integers(0, work.classes, (n, *work.targets))
