"""The networks in Sillar: `trainer` and `server` make functions to be timed."""

import itertools
from functools import partial

import sillar as sl
from benchmarks.workloads import ALL, GPTS, RATE, STAGES
from sillar import nn
from sillar.backends import load
from sillar.train.precision import rewriting


def mlp(*sizes):
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Dense(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cnn():
    return nn.Sequential(
        *(nn.Conv2D(1, 32, 3), nn.ReLU(), nn.Conv2D(32, 64, 3), nn.ReLU()),
        *(nn.MaxPool2D(2), nn.Flatten(), nn.Dense(9216, 128), nn.ReLU()),
        nn.Dense(128, 10),
    )


def convnet():
    """The Keras examples' network on MNIST, without dropout: 34,826 parameters."""
    return nn.Sequential(
        *(nn.Conv2D(1, 32, 3), nn.ReLU(), nn.MaxPool2D(2)),
        *(nn.Conv2D(32, 64, 3), nn.ReLU(), nn.MaxPool2D(2)),
        *(nn.Flatten(), nn.Dense(1600, 10)),
    )


def lstm():
    return nn.Sequential(nn.LSTM(1, 64, layers=2, last=True), nn.Dense(64, 28))


def gpt():
    blocks = [nn.TransformerBlock(128, 4, causal=True) for _ in range(4)]
    return nn.Sequential(
        *(nn.Embedding(65, 128), nn.LearnedPositions(64, 128), *blocks),
        *(nn.LayerNorm(128), nn.Dense(128, 65)),
    )


class Residual(nn.Layer):
    """Two 3x3 convolutions beside a shortcut, as in He et al. 2015."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        self.conv1 = nn.Conv2D(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm(c_out)
        self.conv2 = nn.Conv2D(c_out, c_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm(c_out)
        self.shortcut = None
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2D(c_in, c_out, 1, stride=stride, bias=False),
                nn.BatchNorm(c_out),
            )

    def forward(self, x):
        y = sl.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return sl.relu(y + (x if self.shortcut is None else self.shortcut(x)))


def resnet():
    return nn.Sequential(
        *(nn.Conv2D(3, 16, 3, padding=1, bias=False), nn.BatchNorm(16), nn.ReLU()),
        *(Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)),
        *(nn.AvgPool2D(8), nn.Flatten(), nn.Dense(64, 10)),
    )


def resnet18(name):
    """The network of He et al. 2015 for small images: no pooling at first."""
    channels = STAGES[name][0][0]
    layers = [nn.Conv2D(3, channels, 3, padding=1, bias=False)]
    layers += [nn.BatchNorm(channels), nn.ReLU()]
    for c_out, stride in STAGES[name]:
        layers.append(Residual(channels, c_out, stride))
        channels = c_out
    return nn.Sequential(*layers, Mean(), nn.Dense(channels, 10))


class Mean(nn.Layer):
    def forward(self, x):
        return x.mean((1, 2))


class Tied(nn.Sequential):
    """A GPT whose head is its embedding transposed."""

    def forward(self, x):
        return super().forward(x) @ self[0].weight.transpose(1, 0)


def tied_gpt(name):
    """The layers without the head, which `model_of` ties to them."""
    sizes = GPTS[name]
    blocks = range(sizes.blocks)
    return nn.Sequential(
        nn.Embedding(sizes.vocabulary, sizes.width),
        nn.LearnedPositions(sizes.context, sizes.width),
        *(nn.TransformerBlock(sizes.width, sizes.heads, causal=True) for _ in blocks),
        nn.LayerNorm(sizes.width),
    )


NETWORKS = {
    **{name: partial(resnet18, name) for name in STAGES},
    **{name: partial(tied_gpt, name) for name in GPTS},
    "small": lambda: mlp(122, 64, 32, 5),
    "mlp": lambda: mlp(784, 256, 128, 10),
    "cnn": cnn,
    "lstm": lstm,
    "gpt": gpt,
    "convnet": convnet,
    "resnet": resnet,
}


def model_of(name, weights):
    model = nn.from_torch(NETWORKS[ALL[name].network](), weights)
    return Tied(*model.layers) if name in GPTS else model


def trainer(
    name, weights, x, y, *, compiled, backend="numpy", device="cpu", half=False
):
    """Return a function that does one step and returns the loss before it.

    Halves need a compiled step: an eager one computes in float32.
    """
    model, loss_of = model_of(name, weights).to(backend, device), sl.CrossEntropy()
    x, y = (load(backend).from_numpy(array, device) for array in (x, y))
    params = model.parameters()
    optimizer = sl.Adam(RATE).bind(params)

    def step(x, y, rng):
        loss = loss_of(model(x, rng=rng), y)
        optimizer.step(sl.grad(loss, params))
        return loss

    rewrite = rewriting("bfloat16" if half else "float32")
    run = sl.Compiled(step, rewrite=rewrite) if compiled else step
    rng = sl.Rng(0)
    return lambda: run(x, y, rng).item()


def server(name, weights, *, compiled):
    """Return a function from inputs to outputs, arrays of NumPy."""
    model = model_of(name, weights)
    run = sl.compile(model) if compiled else model

    def serve(x):
        with sl.no_grad():
            return run(x).numpy()

    return serve
