"""Convolutional networks in stages, held against PyTorch; cells of the user's own."""

import numpy as np
import pytest
import torch
from torch import nn as torch_nn
from torch_kit import assert_agree, shaken

import sillar as sl
from sillar import nn
from sillar.errors import FormatError
from sillar.testing import check_layer
from sillar.testing.cases.layers import normal


def normed(c_in, c_out, stride, kernel=3):
    options = {"stride": stride, "padding": kernel // 2, "bias": False}
    conv = torch_nn.Conv2d(c_in, c_out, kernel, **options)
    return conv, torch_nn.BatchNorm2d(c_out)


class TorchBlock(torch_nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.branch = torch_nn.Sequential(
            *normed(c_in, c_out, stride), torch_nn.ReLU(), *normed(c_out, c_out, 1)
        )
        if c_in != c_out or stride != 1:
            self.shortcut = torch_nn.Sequential(*normed(c_in, c_out, stride, 1))

    def forward(self, x):
        kept = self.shortcut(x) if hasattr(self, "shortcut") else x
        return torch_nn.functional.relu(self.branch(x) + kept)


def torch_cell(c_in, c_out, stride):
    return torch_nn.Sequential(*normed(c_in, c_out, stride), torch_nn.ReLU())


class TorchNet(torch_nn.Module):
    def __init__(self, cell, stem, widths, depth, stride):
        super().__init__()
        self.start = torch_cell(3, widths[0], 1) if stem else torch_nn.Identity()
        self.stages = torch_nn.ModuleList()
        c = widths[0] if stem else 3
        for i, width in enumerate(widths):
            cells = [cell(c, width, stride if i else 1)]
            cells += [cell(width, width, 1) for _ in range(depth - 1)]
            self.stages.append(torch_nn.Sequential(*cells))
            c = width
        self.head = torch_nn.Linear(c, 10)

    def forward(self, x):
        x = self.start(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))


NETS = {
    nn.ResNet: (TorchBlock, True),
    nn.ConvNet: (torch_cell, False),
}
SHAPES = [
    {"widths": (4, 6), "depth": 2, "stride": 2},
    {"widths": (4, 4, 8), "depth": 1, "stride": 3},
    {"widths": (3,), "depth": 1, "stride": 2},
]


@pytest.mark.parametrize("kind", NETS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("training", [None, sl.Rng(0)], ids=["infer", "train"])
def test_networks_are_pytorchs_by_its_names(kind, shape, training):
    dtype = "float32" if training is None else "float64"  # a batch is ill-conditioned
    theirs = shaken(TorchNet(*NETS[kind], **shape)).to(getattr(torch, dtype))
    theirs.train(training is not None)
    ours = nn.from_torch(kind(3, 10, **shape), theirs.state_dict())
    x = normal(4, 9, 10, 3).astype(dtype)
    assert_agree(ours, theirs, x, training=training)
    for path, buffer in ours.buffers().items():  # moved by the batch, or not at all
        expected = nn.from_torch(kind(3, 10, **shape), theirs.state_dict())
        np.testing.assert_allclose(
            expected.buffers()[path].numpy(), buffer.numpy(), rtol=1e-4, atol=1e-6
        )


def test_a_resnet_of_depth_n_has_the_layers_of_the_paper():
    model = nn.ResNet(3, 10, widths=(16, 32, 64), depth=3)
    kernels = [p for p in model.parameters().values() if p.ndim > 1]
    turned = [p for p in kernels if p.shape[:2] == (1, 1)]  # in shortcuts
    assert len(kernels) - len(turned) == 6 * 3 + 2
    assert len(turned) == 2
    theirs = TorchNet(TorchBlock, True, (16, 32, 64), 3, 2)
    assert model.parameters().size == sum(p.numel() for p in theirs.parameters())


def test_depth_may_differ_between_stages():
    model = nn.ResNet(3, 10, widths=(4, 8, 16), depth=(1, 3, 2))
    assert [len(stage) for stage in model.stages] == [1, 3, 2]
    x = np.zeros((1, 8, 8, 3), "float32")
    sizes = []
    x = model.init(sl.Rng(0)).start(x)
    for stage in model.stages:
        x = stage(x)
        sizes.append(x.shape[1:])
    assert sizes == [(8, 8, 4), (4, 4, 8), (2, 2, 16)]


def test_a_block_keeps_x_itself_where_it_can():
    assert nn.ResidualBlock(4, 4).shortcut is None
    block = nn.ResidualBlock(4, 4).init(sl.Rng(0), "float64")
    block.branch[4].weight.data[...] = 0  # then the branch adds nothing
    x = normal(2, 3, 3, 4)
    np.testing.assert_array_equal(np.maximum(x, 0), block(x).numpy())


class Private(nn.Convolutional):
    """Cells whose examples do not see each other, as private training needs them."""

    def cell(self, c_in, c_out, stride):
        conv = nn.Conv2D(c_in, c_out, 3, stride=stride, padding=1)
        return nn.Sequential(conv, nn.GroupNorm(1, c_out), nn.Tanh())


def test_a_cell_of_ones_own_makes_a_network(tmp_path):
    model = Private(1, 2, widths=(2, 4), depth=2)
    assert repr(model) == "Private(1, 2, widths=(2, 4), depth=2)"
    check_layer(model, normal(2, 5, 4, 1))
    assert list(model.parameters())[:2] == [
        "stages.0.layers.0.layers.0.weight",
        "stages.0.layers.0.layers.0.bias",
    ]
    path = tmp_path / "own.safetensors"
    sl.save(model.init(sl.Rng(0)), path)
    with pytest.raises(FormatError, match="layers of its author's own"):
        sl.load(path)
    loaded = sl.load(path, Private(1, 2, widths=(2, 4), depth=2))
    x = normal(2, 4, 4, 1)
    np.testing.assert_array_equal(model(x).numpy(), loaded(x).numpy())


def test_without_a_cell_there_is_no_network():
    with pytest.raises(TypeError, match="abstract"):
        nn.Convolutional(1, 2)


@pytest.mark.parametrize("kind", [nn.ConvNet, nn.ResNet])
def test_networks_learn_and_come_back_from_a_file(kind, tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(64) % 2
    x = rng.normal(size=(64, 8, 8, 1)).astype("float32")
    x[y == 1, :, ::2] += 1.5  # stripes
    model = kind(1, 2, widths=(4, 8))
    run = sl.fit(
        model,
        sl.CrossEntropy(),
        sl.Adam(0.02),
        sl.data.Dataset(x, y),
        epochs=6,
        batch_size=16,
        callbacks=(),
    )
    assert run.history[-1]["loss"] < 0.2 < run.history[0]["loss"]
    sl.save(model, tmp_path / "net.safetensors")
    loaded = sl.load(tmp_path / "net.safetensors")
    assert repr(loaded) == repr(model)
    np.testing.assert_array_equal(model(x).numpy(), loaded(x).numpy())
