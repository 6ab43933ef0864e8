"""Cases of all layers, with inputs to try them on."""

from __future__ import annotations

from typing import Any

import numpy as np

from sillar import nn
from sillar.nn import initializers
from sillar.testing.cases.draws import Draws


def normal(*shape: int, seed: int = 0) -> Any:
    """Return standard normal numbers, the same for the same seed and shape."""
    return np.random.default_rng(seed).normal(size=shape)


def apart(*shape: int) -> Any:
    """Return numbers around 0 that lie apart from it and from one another."""
    return Draws(0).apart(*shape)


SOBEL = np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])[:, :, None, None]
WORDS = np.array([[0, 2, 2], [4, 0, 1], [3, 3, 3]])

SEEN = np.array([[True, True, False], [True, False, False]])
NOTHING = np.array([[True, False, True], [False, False, False]])
# name: layer, inputs; the first axis of the inputs is the batch
CASES = {
    "Dense": (nn.Dense(3, 2), [normal(4, 3)]),
    "Dense-no-bias": (nn.Dense(3, 2, bias=False), [normal(4, 3)]),
    "Dense-sequence": (nn.Dense(3, 2), [normal(2, 5, 3)]),
    "Dropout": (nn.Dropout(0.4), [normal(4, 6)]),
    "Dropout-never": (nn.Dropout(0.0), [normal(4, 6)]),
    "Embedding": (nn.Embedding(5, 3), [WORDS]),
    "Flatten": (nn.Flatten(), [normal(3, 2, 2, 2)]),
    "Flatten-vector": (nn.Flatten(), [normal(3)]),
    "Conv2D": (nn.Conv2D(2, 3, 3), [normal(2, 5, 4, 2)]),
    "Conv2D-all": (
        nn.Conv2D(
            4, 6, (2, 3), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2
        ),
        [normal(2, 5, 6, 4)],
    ),
    "Conv2D-same": (
        nn.Conv2D(2, 3, (4, 3), padding="same", bias=False),
        [normal(2, 4, 5, 2)],
    ),
    "Conv2D-depthwise": (nn.Conv2D(3, 3, 2, groups=3), [normal(2, 3, 3, 3)]),
    "Conv2D-fixed": (nn.Conv2D(1, 1, 3, fixed=SOBEL), [normal(2, 4, 5, 1)]),
    "MaxPool2D": (nn.MaxPool2D(2), [apart(2, 4, 5, 2)]),
    "MaxPool2D-all": (
        nn.MaxPool2D((3, 2), stride=(1, 2), padding=(1, 1)),
        [apart(2, 4, 5, 2)],
    ),
    "AvgPool2D": (nn.AvgPool2D(2), [normal(2, 4, 5, 2)]),
    "AvgPool2D-all": (
        nn.AvgPool2D((3, 2), stride=(1, 2), padding=(1, 1)),
        [normal(2, 4, 5, 2)],
    ),
    "Attention": (nn.Attention(4, 2), [normal(2, 3, 4)]),
    "Attention-causal": (
        nn.Attention(4, 1, causal=True, bias=False),
        [normal(2, 3, 4)],
    ),
    "Attention-mask": (nn.Attention(4, 2, causal=True), [normal(2, 3, 4), SEEN]),
    "Attention-nothing": (nn.Attention(2, 2), [normal(2, 3, 2), NOTHING]),
    "Attention-dropout": (nn.Attention(4, 2, dropout=0.4), [normal(2, 3, 4)]),
    "Attention-context": (
        nn.Attention(4, 2, rotary=True),
        [normal(2, 3, 4), normal(2, 2, 4)],
    ),
    "Attention-width": (
        nn.Attention(4, 2, kv_width=3),
        [normal(2, 2, 4), normal(2, 3, 3), SEEN],
    ),
    "LearnedPositions": (nn.LearnedPositions(3, 2), [normal(2, 3, 2)]),
    "LearnedPositions-short": (nn.LearnedPositions(5, 2), [normal(2, 3, 2)]),
    "SinusoidalPositions": (nn.SinusoidalPositions(4), [normal(2, 3, 4)]),
    "TransformerBlock": (
        nn.TransformerBlock(4, 2, hidden=3),
        [normal(2, 3, 4), SEEN],
    ),
    "TransformerBlock-all": (
        nn.TransformerBlock(4, 2, causal=True, dropout=0.2, bias=False, rotary=True),
        [normal(2, 3, 4)],
    ),
    "Conv1D": (nn.Conv1D(2, 3, 3), [normal(2, 5, 2)]),
    "Conv1D-all": (
        nn.Conv1D(4, 6, 2, stride=2, padding=3, dilation=2, groups=2, bias=False),
        [normal(2, 5, 4)],
    ),
    "Conv1D-same": (nn.Conv1D(2, 3, 4, padding="same"), [normal(2, 5, 2)]),
    "Conv1D-causal": (
        nn.Conv1D(2, 3, 3, padding="causal", dilation=2),
        [normal(2, 5, 2)],
    ),
    "Conv2DTranspose": (nn.Conv2DTranspose(3, 2, 2), [normal(2, 3, 2, 3)]),
    "Conv2DTranspose-all": (
        nn.Conv2DTranspose(
            *(4, 6, (2, 3)),
            stride=(2, 1),
            padding=(1, 2),
            output_padding=(1, 1),
            dilation=(1, 2),
            groups=2,
        ),
        [normal(2, 4, 3, 4)],
    ),
    "Conv2DTranspose-no-bias": (
        nn.Conv2DTranspose(1, 2, 1, bias=False),
        [normal(2, 1, 2, 1)],
    ),
    "DepthwiseConv2D": (nn.DepthwiseConv2D(3, 2), [normal(2, 4, 3, 3)]),
    "DepthwiseConv2D-all": (
        nn.DepthwiseConv2D(
            *(2, (2, 3)),
            depth_multiplier=3,
            stride=(2, 1),
            padding=1,
            dilation=(1, 2),
            bias=False,
        ),
        [normal(2, 4, 5, 2)],
    ),
    "SeparableConv2D": (nn.SeparableConv2D(2, 3, 3), [normal(2, 4, 4, 2)]),
    "SeparableConv2D-all": (
        nn.SeparableConv2D(
            *(2, 3, (3, 2)),
            depth_multiplier=2,
            stride=2,
            padding=(1, 0),
            dilation=(1, 2),
            bias=False,
        ),
        [normal(2, 4, 5, 2)],
    ),
    "GlobalAvgPool2D": (nn.GlobalAvgPool2D(), [normal(2, 3, 2, 4)]),
    "GlobalMaxPool2D": (nn.GlobalMaxPool2D(), [apart(2, 3, 2, 4)]),
    "GlobalAvgPool1D": (nn.GlobalAvgPool1D(), [normal(2, 5, 3)]),
    "GlobalMaxPool1D": (nn.GlobalMaxPool1D(), [apart(2, 5, 3)]),
    "MaxPool1D": (nn.MaxPool1D(2), [apart(2, 5, 3)]),
    "MaxPool1D-all": (nn.MaxPool1D(3, stride=2, padding=1), [apart(2, 6, 2)]),
    "AvgPool1D": (nn.AvgPool1D(2), [normal(2, 5, 3)]),
    "AvgPool1D-all": (nn.AvgPool1D(3, stride=2, padding=1), [normal(2, 6, 2)]),
    "ConvNet": (nn.ConvNet(1, 2, widths=(2, 3)), [normal(3, 4, 4, 1)]),
    "ResNet": (nn.ResNet(2, 3, widths=(2, 4)), [normal(3, 4, 3, 2)]),
    "ResNet-all": (
        nn.ResNet(1, 2, widths=(2, 2, 3), depth=(1, 2, 1), stride=3),
        [normal(3, 7, 7, 1)],
    ),
    "ResidualBlock": (nn.ResidualBlock(2, 2), [normal(3, 3, 3, 2)]),
    "ResidualBlock-all": (nn.ResidualBlock(2, 3, stride=2), [normal(3, 4, 5, 2)]),
    "GroupNorm": (nn.GroupNorm(2, 6), [normal(3, 2, 2, 6)]),
    "GroupNorm-vectors": (nn.GroupNorm(2, 4), [normal(3, 4)]),
    "GroupNorm-plain": (
        nn.GroupNorm(1, 3, eps=0.1, affine=False),
        [normal(2, 4, 3)],
    ),
    "GPT": (nn.GPT(5, 3, blocks=1, heads=1, context=4), [WORDS]),
    "GPT-all": (
        nn.GPT(5, 4, blocks=2, heads=2, context=3, dropout=0.2, bias=False, tied=False),
        [WORDS],
    ),
    "BatchNorm": (nn.BatchNorm(3), [normal(5, 3)]),
    "BatchNorm-images": (nn.BatchNorm(2, momentum=0.5), [normal(2, 3, 3, 2)]),
    "BatchNorm-plain": (nn.BatchNorm(3, eps=0.1, affine=False), [normal(5, 3)]),
    "LayerNorm": (nn.LayerNorm(4), [normal(3, 4)]),
    "LayerNorm-plain": (nn.LayerNorm(4, eps=0.1, affine=False), [normal(2, 3, 4)]),
    "RNN": (nn.RNN(3, 2), [normal(2, 4, 3)]),
    "RNN-all": (
        nn.RNN(2, 3, layers=2, bidirectional=True, dropout=0.4, nonlinearity="relu"),
        [normal(2, 3, 2), normal(2, 1, 4, 3), SEEN],
    ),
    "LSTM": (nn.LSTM(3, 2), [normal(2, 4, 3)]),
    "LSTM-one-step": (nn.LSTM(2, 1, bidirectional=True), [normal(2, 1, 2)]),
    "LSTM-all": (
        nn.LSTM(2, 3, layers=2, bidirectional=True, dropout=0.4),
        [normal(2, 3, 2), normal(2, 2, 4, 3), SEEN],
    ),
    "LSTM-last": (
        nn.LSTM(2, 3, layers=2, bias=False, last=True),
        [normal(2, 3, 2), SEEN],
    ),
    "GRU": (nn.GRU(3, 2), [normal(2, 4, 3)]),
    "GRU-all": (
        nn.GRU(2, 3, layers=2, bidirectional=True, dropout=0.4),
        [normal(2, 3, 2), normal(2, 1, 4, 3), SEEN],
    ),
    "GRU-last": (
        nn.GRU(2, 3, bidirectional=True, bias=False, last=True),
        [normal(2, 3, 2), normal(2, 1, 2, 3)],
    ),
    "ELU": (nn.ELU(), [apart(3, 4)]),
    "ELU-alpha": (nn.ELU(0.5), [apart(3, 4)]),
    "GELU": (nn.GELU(), [normal(3, 4)]),
    "GELU-tanh": (nn.GELU(approximate=True), [normal(3, 4)]),
    "LeakyReLU": (nn.LeakyReLU(), [apart(3, 4)]),
    "LeakyReLU-slope": (nn.LeakyReLU(0.2), [apart(3, 4)]),
    "ReLU": (nn.ReLU(), [apart(3, 4)]),
    "Sigmoid": (nn.Sigmoid(), [normal(3, 4)]),
    "SiLU": (nn.SiLU(), [normal(3, 4)]),
    "Softmax": (nn.Softmax(), [normal(3, 4)]),
    "Softmax-axis": (nn.Softmax(axis=1), [normal(2, 3, 4)]),
    "Softplus": (nn.Softplus(), [normal(3, 4)]),
    "Tanh": (nn.Tanh(), [normal(3, 4)]),
    "Sequential": (
        nn.Sequential(
            nn.Conv2D(1, 2, 2, initializer=initializers.xavier_uniform),
            nn.BatchNorm(2),
            nn.Sequential(nn.Tanh(), nn.Dropout(0.2)),
            nn.Flatten(),
            nn.Dense(8, 3),
        ),
        [normal(3, 3, 3, 1)],
    ),
    "CodedDense": (
        nn.CodedDense(4, 3, (3, 2)),
        [np.concatenate([normal(3, 2), [[0, 1], [2, 0], [1, 1]]], axis=1)],
    ),
    "Rescaling": (nn.Rescaling(2.5, -1.0), [normal(3, 2)]),
    "Parallel": (
        nn.Parallel(nn.Dense(3, 2), nn.Sequential(nn.Tanh(), nn.Dropout(0.2))),
        [normal(4, 3)],
    ),
    "ReconstructionError": (
        nn.ReconstructionError(nn.Dense(3, 2), nn.Tanh(), nn.Dense(2, 3)),
        [normal(4, 3)],
    ),
    "ReconstructionError-sequence": (
        nn.ReconstructionError(nn.Dense(3, 3)),
        [normal(2, 4, 3)],
    ),
    "Sequential-empty": (nn.Sequential(), [normal(3, 2)]),
}
