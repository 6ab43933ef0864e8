"""Weights from PyTorch: forward and every gradient agree to 1e-5 afterwards."""

import numpy as np
import pytest
import torch
from torch import nn as torch_nn
from torch_kit import assert_agree, channels_first, channels_last, near, shaken

import sillar as sl
from sillar import nn
from sillar.errors import ConfigError, DtypeError
from sillar.nn.from_torch import CONVERTERS
from sillar.testing.cases.layers import CASES, normal

IMAGES = normal(2, 6, 5, 4).astype("float32")
SERIES = normal(2, 6, 4).astype("float32")
VECTORS = normal(5, 4).astype("float32")
WORDS = np.array([[0, 2, 2], [4, 0, 1]])

TOKENS = normal(2, 3, 4).astype("float32")


class SelfAttention(torch_nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


class CrossAttention(torch_nn.MultiheadAttention):
    """From x to a part of x."""

    def forward(self, x):
        part = x[..., : self.kdim]
        return super().forward(x, part, part, need_weights=False)[0]


class AttentionToPart(nn.Attention):
    """From x to a part of x."""

    def forward(self, x):
        return super().forward(x, x[..., : self.kv_width])


class Positions(torch_nn.Embedding):
    def forward(self, x):
        return x + self.weight[: x.shape[1]]


# name: our layer, PyTorch's, an input
PAIRS = {
    "Dense": (nn.Dense(4, 3), torch_nn.Linear(4, 3), VECTORS),
    "Dense-no-bias": (
        nn.Dense(4, 3, bias=False),
        torch_nn.Linear(4, 3, bias=False),
        VECTORS,
    ),
    "Conv2D": (nn.Conv2D(4, 6, (3, 2)), torch_nn.Conv2d(4, 6, (3, 2)), IMAGES),
    "Conv2D-groups": (
        nn.Conv2D(4, 6, 3, groups=2, stride=2, padding=1),
        torch_nn.Conv2d(4, 6, 3, groups=2, stride=2, padding=1),
        IMAGES,
    ),
    "Conv1D": (
        nn.Conv1D(4, 6, 3, groups=2),
        torch_nn.Conv1d(4, 6, 3, groups=2),
        SERIES,
    ),
    "Conv2DTranspose": (
        nn.Conv2DTranspose(4, 6, (3, 2), groups=2),
        torch_nn.ConvTranspose2d(4, 6, (3, 2), groups=2),
        IMAGES,
    ),
    "DepthwiseConv2D": (
        nn.DepthwiseConv2D(4, 3, depth_multiplier=2),
        torch_nn.Conv2d(4, 8, 3, groups=4),
        IMAGES,
    ),
    "GroupNorm": (nn.GroupNorm(2, 4), torch_nn.GroupNorm(2, 4), IMAGES),
    "BatchNorm": (nn.BatchNorm(4), torch_nn.BatchNorm1d(4), VECTORS),
    "BatchNorm-images": (nn.BatchNorm(4), torch_nn.BatchNorm2d(4), IMAGES),
    "BatchNorm-plain": (
        nn.BatchNorm(4, affine=False),
        torch_nn.BatchNorm1d(4, affine=False),
        VECTORS,
    ),
    "LayerNorm": (nn.LayerNorm(4), torch_nn.LayerNorm(4), VECTORS),
    "Attention": (nn.Attention(4, 2), SelfAttention(4, 2, batch_first=True), TOKENS),
    "Attention-no-bias": (
        nn.Attention(4, 2, bias=False),
        SelfAttention(4, 2, bias=False, batch_first=True),
        TOKENS,
    ),
    "Attention-width": (
        AttentionToPart(4, 2, kv_width=3),
        CrossAttention(4, 2, kdim=3, vdim=3, batch_first=True),
        TOKENS,
    ),
    "Attention-same-width": (
        AttentionToPart(4, 2, kv_width=4),
        CrossAttention(4, 2, kdim=4, vdim=4, batch_first=True),
        TOKENS,
    ),
    "LearnedPositions": (nn.LearnedPositions(5, 4), Positions(5, 4), TOKENS),
    "TransformerBlock": (
        nn.TransformerBlock(4, 2, hidden=6),
        torch_nn.TransformerEncoderLayer(
            4, 2, 6, 0.0, "gelu", batch_first=True, norm_first=True
        ),
        TOKENS,
    ),
    "Embedding": (nn.Embedding(5, 3), torch_nn.Embedding(5, 3), WORDS),
}


@pytest.mark.parametrize(("layer", "theirs", "x"), PAIRS.values(), ids=PAIRS)
def test_each_layer_alone(layer, theirs, x):
    shaken(theirs)
    assert nn.from_torch(layer, theirs.state_dict()) is layer
    assert_agree(layer, theirs, x, moved=x is SERIES or x is IMAGES)


ELSEWHERE = {
    nn.Recurrent: "test_recurrent.py"
}  # layer type: the file of tests that holds it against PyTorch's


def test_every_layer_with_weights_is_in_the_table_and_here():
    plain = {
        type(layer).__name__
        for layer, _ in CASES.values()
        if any(isinstance(part, nn.Parameter) for part in vars(layer).values())
        and not isinstance(layer, (*CONVERTERS, nn.CodedDense))  # PyTorch has none
    }
    assert plain == set()
    tested = {type(layer) for layer, *_ in PAIRS.values()} | {*ELSEWHERE}
    untested = {
        kind.__name__
        for kind in CONVERTERS
        if not any(issubclass(layer, kind) for layer in tested)
    }
    assert untested == set()


def convolutional():
    ours = nn.Sequential(
        nn.Conv2D(2, 4, 3),
        nn.BatchNorm(4),
        nn.ReLU(),
        nn.Sequential(nn.Conv2D(4, 6, 2, groups=2), nn.MaxPool2D(2)),
        nn.Flatten(),
        nn.BatchNorm(24),
        nn.Dropout(0.5),
        nn.Dense(24, 5),
        nn.LayerNorm(5),
        nn.Dense(5, 3),
    )
    theirs = torch_nn.Sequential(
        torch_nn.Conv2d(2, 4, 3),
        torch_nn.BatchNorm2d(4),
        torch_nn.ReLU(),
        torch_nn.Sequential(torch_nn.Conv2d(4, 6, 2, groups=2), torch_nn.MaxPool2d(2)),
        torch_nn.Flatten(),
        torch_nn.BatchNorm1d(24),
        torch_nn.Dropout(0.5),
        torch_nn.Linear(24, 5),
        torch_nn.LayerNorm(5),
        torch_nn.Linear(5, 3),
    )
    return ours, shaken(theirs)


X = normal(3, 7, 7, 2).astype("float32")


def test_a_flattened_image_is_turned_to_channels_last():
    ours, theirs = convolutional()
    assert_agree(nn.from_torch(ours, theirs.state_dict()), theirs, X)


def test_arrays_do_as_well_as_tensors_and_a_model_with_values_is_overwritten():
    ours, theirs = convolutional()
    arrays = {name: t.numpy() for name, t in theirs.state_dict().items()}
    assert_agree(nn.from_torch(ours.init(sl.Rng(0), "float64"), arrays), theirs, X)


class Ours(nn.Layer):
    """Attributes, a list, a dict and a parameter of its own, by PyTorch's names."""

    def __init__(self):
        self.blocks = [nn.Dense(4, 4), nn.Dense(4, 4)]
        self.heads = {"a": nn.Dense(4, 2)}
        self.scale = nn.Parameter((4,), nn.initializers.ones)

    def forward(self, x):
        for block in self.blocks:
            x = sl.tanh(block(x)) * self.scale
        return self.heads["a"](x)


class Theirs(torch_nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = torch_nn.ModuleList([torch_nn.Linear(4, 4) for _ in range(2)])
        self.heads = torch_nn.ModuleDict({"a": torch_nn.Linear(4, 2)})
        self.scale = torch_nn.Parameter(torch.ones(4))

    def forward(self, x):
        for block in self.blocks:
            x = torch.tanh(block(x)) * self.scale
        return self.heads["a"](x)


def test_a_model_of_the_users_own_maps_by_name():
    theirs = shaken(Theirs())
    assert_agree(nn.from_torch(Ours(), theirs.state_dict()), theirs, VECTORS)


class Flat(nn.Layer):
    """A model whose forward flattens by itself, so that no layer tells of it."""

    def __init__(self):
        self.fc = nn.Dense(12, 3)

    def forward(self, x):
        return self.fc(x.reshape(x.shape[0], 12))


def test_channels_are_told_where_no_layer_says_them():
    theirs = shaken(torch_nn.Sequential(torch_nn.Flatten(), torch_nn.Linear(12, 3)))
    state = {f"fc.{k[2:]}": v for k, v in theirs.state_dict().items()}
    x = normal(2, 2, 2, 3).astype("float32")
    ours = nn.from_torch(Flat(), state, channels={"fc": 3})
    near(channels_last(theirs(torch.tensor(channels_first(x)))), ours(x).numpy())
    ours = nn.from_torch(
        nn.Sequential(nn.Flatten(), nn.Dense(12, 3)),
        theirs.state_dict(),
        channels={"1": 3},
    )
    near(channels_last(theirs(torch.tensor(channels_first(x)))), ours(x).numpy())
    with pytest.raises(ConfigError, match=r"channels for \['other'\], which no layer"):
        nn.from_torch(Flat(), state, channels={"other": 3})
    with pytest.raises(ConfigError, match="fc: 12 inputs are no images of 5 channels"):
        nn.from_torch(Flat(), state, channels={"fc": 5})


def test_float64_stays_and_smaller_types_become_float32():
    theirs = torch_nn.Linear(2, 3)
    for given, expected in (("double", "float64"), ("half", "float32")):
        state = getattr(theirs, given)().state_dict()
        assert nn.from_torch(nn.Dense(2, 3), state).weight.dtype == expected
    with pytest.raises(DtypeError, match=r"weight cannot be read: .*model\.float\(\)"):
        nn.from_torch(nn.Dense(2, 3), theirs.bfloat16().state_dict())


class Tied(torch_nn.Module):
    """Input and output words are one matrix; PyTorch lists it under both names."""

    def __init__(self):
        super().__init__()
        self.words = torch_nn.Embedding(5, 3)
        self.head = torch_nn.Linear(3, 5, bias=False)
        self.head.weight = self.words.weight


class OursTied(nn.Layer):
    def __init__(self):
        self.words = nn.Embedding(5, 3)

    def forward(self, x):
        return self.words(x) @ self.words.weight.T


def test_a_second_name_of_a_tied_weight_is_passed_over():
    theirs = shaken(Tied())
    ours = nn.from_torch(OursTied(), theirs.state_dict())
    expected = theirs.head(theirs.words(torch.tensor(WORDS)))
    near(channels_last(expected, moved=False), ours(WORDS).numpy())
    apart = {k: v.clone() for k, v in theirs.state_dict().items()}
    with pytest.raises(ConfigError, match=r"unexpected \['head.weight'\]"):
        nn.from_torch(OursTied(), apart)


def test_a_layer_in_two_places_has_one_value():
    ours, theirs = nn.Dense(3, 3), torch_nn.Linear(3, 3)
    ours, theirs = nn.Sequential(ours, ours), torch_nn.Sequential(theirs, theirs)
    state = shaken(theirs).state_dict()
    once = {k: v for k, v in state.items() if k.startswith("0.")}
    for given in (state, once):
        x = normal(2, 3).astype("float32")
        y = nn.from_torch(ours, given)(x)
        near(channels_last(theirs(torch.tensor(x))), y.numpy())
    state["1.bias"] = state["1.bias"] + 1
    with pytest.raises(ConfigError, match=r"1\.bias: one parameter .* two values"):
        nn.from_torch(ours, state)


def changed(state, **entries):
    return {k: v for k, v in {**state, **entries}.items() if v is not None}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"0.weight": None}, r"missing \['0.weight'\]"),
        ({"3.0.bias": None, "7.bias": None}, r"missing \['3.0.bias', '7.bias'\]"),
        ({"1.running_var": None}, r"missing \['1.running_var'\]"),
        ({"more": torch.ones(2)}, r"unexpected \['more'\]"),
        ({"2.weight": torch.ones(2)}, r"unexpected \['2.weight'\]"),
        ({"9.weight": torch.ones(3, 4)}, r"9\.weight: expected shape \(5, 3\), got"),
        ({"0.weight": torch.ones(4)}, r"0\.weight: expected .* got \(4,\)"),
        ({"7.weight": torch.ones(5, 13)}, "7: 13 inputs are no images of 6 channels"),
    ],
)
def test_a_mismatch_is_named_and_changes_nothing(entries, message):
    ours, theirs = convolutional()
    before = {k: a.copy() for k, a in ours.init(sl.Rng(0)).state().items()}
    with pytest.raises(ConfigError, match=message):
        nn.from_torch(ours, changed(theirs.state_dict(), **entries))
    for name, array in ours.state().items():
        np.testing.assert_array_equal(before[name], array)


def test_what_is_no_state_dict_is_refused():
    with pytest.raises(ConfigError, match=r"call model\.state_dict\(\)"):
        nn.from_torch(nn.Dense(2, 3), torch_nn.Linear(2, 3))
    with pytest.raises(DtypeError, match="weight holds no numbers"):
        nn.from_torch(nn.Dense(2, 3), {"weight": "abc", "bias": np.ones(3)})
