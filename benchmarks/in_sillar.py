"""The networks in Sillar: `trainer` and `server` make functions to be timed."""

import itertools

import sillar as sl
from benchmarks.workloads import RATE, WORKLOADS
from sillar import nn


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


NETWORKS = {
    "small": lambda: mlp(122, 64, 32, 5),
    "mlp": lambda: mlp(784, 256, 128, 10),
    "cnn": cnn,
    "lstm": lstm,
    "gpt": gpt,
    "convnet": convnet,
    "resnet": resnet,
}


def model_of(name, weights):
    return nn.from_torch(NETWORKS[WORKLOADS[name].network](), weights)


def trainer(name, weights, x, y, *, compiled):
    """Return a function that does one step and returns the loss before it."""
    model, loss_of = model_of(name, weights), sl.CrossEntropy()
    params = model.parameters()
    optimizer = sl.Adam(RATE).bind(params)

    def step(x, y, rng):
        loss = loss_of(model(x, rng=rng), y)
        optimizer.step(sl.grad(loss, params))
        return loss

    run, rng = sl.compile(step) if compiled else step, sl.Rng(0)
    return lambda: run(x, y, rng).item()


def server(name, weights, *, compiled):
    """Return a function from inputs to outputs, arrays of NumPy."""
    model = model_of(name, weights)
    run = sl.compile(model) if compiled else model

    def serve(x):
        with sl.no_grad():
            return run(x).numpy()

    return serve
