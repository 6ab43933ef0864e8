"""The networks in PyTorch: `trainer` and `server` make functions to be timed.

Images are kept in `channels_last`. That is the faster layout, and without it Inductor
(2.13, CPU) turns the layout itself and loses the gradient of a max-pooling in `cnn`.
Adam is the fused one. Each workload is compiled in a process of its own: Dynamo falls
back to eager, with a warning only, after eight compilations of one function.
"""

import itertools
import warnings
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.workloads import ALL, GPTS, RATE, STAGES

IMAGES = ("cnn", "convnet", "resnet", *STAGES)


def mlp(*sizes):
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cnn():
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU()),
        nn.Linear(128, 10),
    )


def convnet():
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1600, 10)),
    )


class LastStep(nn.LSTM):
    def forward(self, x):
        return super().forward(x)[0][:, -1]


class Positions(nn.Module):
    def __init__(self, length, width):
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(length, width))

    def forward(self, x):
        return x + self.weight


class Attention(nn.Module):
    """Causal; its parameters are named as those of nn.MultiheadAttention."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x):
        n, t, width = x.shape
        qkv = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        qkv = qkv.view(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(*qkv, is_causal=True)
        return self.out_proj(y.transpose(1, 2).reshape(n, t, width))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attn = Attention(width, heads)
        self.linear1 = nn.Linear(width, 4 * width)
        self.linear2 = nn.Linear(4 * width, width)

    def forward(self, x):
        x = x + self.self_attn(self.norm1(x))
        return x + self.linear2(functional.gelu(self.linear1(self.norm2(x))))


def gpt():
    return nn.Sequential(
        *(nn.Embedding(65, 128), Positions(64, 128)),
        *(Block(128, 4) for _ in range(4)),
        *(nn.LayerNorm(128), nn.Linear(128, 65)),
    )


class Residual(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x):
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        return functional.relu(y + self.shortcut(x))


def resnet():
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)),
        *(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10)),
    )


def resnet18(name):
    """The network of He et al. 2015 for small images: no pooling at first."""
    channels = STAGES[name][0][0]
    layers = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
    layers += [nn.BatchNorm2d(channels), nn.ReLU()]
    for c_out, stride in STAGES[name]:
        layers.append(Residual(channels, c_out, stride))
        channels = c_out
    return nn.Sequential(*layers, Mean(), nn.Linear(channels, 10))


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


class Tied(nn.Sequential):
    """A GPT whose head is its embedding transposed."""

    def forward(self, x):
        return functional.linear(super().forward(x), self[0].weight)


def tied_gpt(name):
    sizes = GPTS[name]
    model = Tied(
        *(nn.Embedding(sizes.vocabulary, sizes.width),),
        Positions(sizes.context, sizes.width),
        *(Block(sizes.width, sizes.heads) for _ in range(sizes.blocks)),
        nn.LayerNorm(sizes.width),
    )
    nn.init.normal_(model[0].weight, std=0.02)
    return model


NETWORKS = {
    **{name: partial(resnet18, name) for name in STAGES},
    **{name: partial(tied_gpt, name) for name in GPTS},
    "small": lambda: mlp(122, 64, 32, 5),
    "mlp": lambda: mlp(784, 256, 128, 10),
    "cnn": cnn,
    "lstm": lambda: nn.Sequential(
        LastStep(1, 64, num_layers=2, batch_first=True), nn.Linear(64, 28)
    ),
    "gpt": gpt,
    "convnet": convnet,
    "resnet": resnet,
}


def draw(name):
    """Return the first weights of a workload, by PyTorch's names, for all libraries."""
    torch.manual_seed(0)
    state = NETWORKS[ALL[name].network]().state_dict()
    return {key: value.numpy() for key, value in state.items()}


def save(name, path):
    np.savez(path, **draw(name))


def model_of(name, weights):
    model = NETWORKS[ALL[name].network]()
    model.load_state_dict({k: torch.tensor(v) for k, v in weights.items()})
    return model.to(memory_format=torch.channels_last) if name in IMAGES else model


def inputs_of(name, x):
    """Return the inputs as a tensor; images keep their channels last in memory."""
    x = torch.from_numpy(x)
    return x.permute(0, 3, 1, 2) if name in IMAGES else x


def trainer(name, weights, x, y, *, compiled, device="cpu", half=False):
    """Return a function that does one step and returns the loss before it."""
    model = model_of(name, weights).to(device)
    inputs, labels = inputs_of(name, x).to(device), torch.tensor(y, device=device)
    optimizer = torch.optim.Adam(model.parameters(), RATE, fused=True)

    def loss_of(inputs, labels):
        with torch.autocast(device, torch.bfloat16, enabled=half):
            outputs = model(inputs)
        return functional.cross_entropy(
            outputs.flatten(0, -2).float(), labels.flatten()
        )

    run = torch.compile(loss_of) if compiled else loss_of

    def step():
        optimizer.zero_grad()
        loss = run(inputs, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def server(name, weights, *, compiled):
    """Return a function from inputs to outputs, arrays of NumPy."""
    model = model_of(name, weights).eval()
    run = torch.compile(model) if compiled else model

    def serve(x):
        with torch.inference_mode():
            return run(inputs_of(name, x)).numpy()

    return serve


def export(name, weights, x, path):
    """Write the network as an ONNX file for inputs like x."""
    model = model_of(name, weights).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newer exporter needs one package more
        torch.onnx.export(
            model, (inputs_of(name, x),), path, dynamo=False, input_names=["x"]
        )
