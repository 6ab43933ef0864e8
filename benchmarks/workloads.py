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


LARGE = {  # for a GPU, and as small as can be for a test without one
    "resnet18": Workload("resnet18", (32, 32, 3), (), 10, 256),
    "gpt-124m": Workload("gpt-124m", (1024,), (1024,), 50_304, 8),
    "resnet18-tiny": Workload("resnet18-tiny", (8, 8, 3), (), 10, 4),
    "gpt-tiny": Workload("gpt-tiny", (16,), (16,), 64, 2),
}
ALL = WORKLOADS | LARGE


class Sizes(NamedTuple):
    """How large a GPT with a tied head is."""

    vocabulary: int
    width: int
    blocks: int
    heads: int
    context: int


GPTS = {
    "gpt-124m": Sizes(50_304, 768, 12, 12, 1024),  # Radford et al. 2019, the smallest
    "gpt-tiny": Sizes(64, 32, 2, 2, 16),
}
STAGES = {  # channels and stride of each residual block, after a first convolution
    "resnet18": tuple(
        (channels, stride)
        for channels, first in ((64, 1), (128, 2), (256, 2), (512, 2))
        for stride in (first, 1)
    ),
    "resnet18-tiny": ((8, 1), (16, 2)),
}


def load(name: str, batch: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets, channels last; those of `gpt` are tokens."""
    work, rng = ALL[name], np.random.default_rng(0)
    n = batch or work.batch
    if work.network.startswith("gpt"):
        x = rng.integers(0, work.classes, (n, *work.shape))
    else:
        x = rng.uniform(size=(n, *work.shape)).astype("float32")
    return x, rng.integers(0, work.classes, (n, *work.targets))
