"""Layers, initial values and losses."""

from sillar.core.parameter import Buffer, Parameter, Parameters
from sillar.nn import initializers
from sillar.nn.activations import (
    ELU,
    GELU,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from sillar.nn.attention import Attention
from sillar.nn.branches import Parallel, ReconstructionError
from sillar.nn.convnet import ConvNet, Convolutional, ResidualBlock, ResNet
from sillar.nn.convolutions import Conv2DTranspose, DepthwiseConv2D, SeparableConv2D
from sillar.nn.cross_entropy import CrossEntropy, Focal
from sillar.nn.from_torch import from_torch
from sillar.nn.images import (
    AvgPool2D,
    Conv2D,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    MaxPool2D,
)
from sillar.nn.layer import Layer, is_training, next_rng
from sillar.nn.layers import Dense, Dropout, Embedding, Flatten, Sequential
from sillar.nn.losses import MAE, MSE, BinaryCrossEntropy, Hinge, Huber, Loss
from sillar.nn.normalization import BatchNorm, GroupNorm, LayerNorm
from sillar.nn.positions import LearnedPositions, SinusoidalPositions
from sillar.nn.recurrent import GRU, LSTM, RNN, Recurrent
from sillar.nn.series import (
    AvgPool1D,
    Conv1D,
    GlobalAvgPool1D,
    GlobalMaxPool1D,
    MaxPool1D,
)
from sillar.nn.tables import CodedDense, Rescaling
from sillar.nn.transformer import GPT, TransformerBlock

__all__ = [
    "ELU",
    "GELU",
    "GPT",
    "GRU",
    "LSTM",
    "MAE",
    "MSE",
    "RNN",
    "Attention",
    "AvgPool1D",
    "AvgPool2D",
    "BatchNorm",
    "BinaryCrossEntropy",
    "Buffer",
    "CodedDense",
    "Conv1D",
    "Conv2D",
    "Conv2DTranspose",
    "ConvNet",
    "Convolutional",
    "CrossEntropy",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Embedding",
    "Flatten",
    "Focal",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GroupNorm",
    "Hinge",
    "Huber",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "LearnedPositions",
    "Loss",
    "MaxPool1D",
    "MaxPool2D",
    "Parallel",
    "Parameter",
    "Parameters",
    "ReLU",
    "ReconstructionError",
    "Recurrent",
    "ResNet",
    "Rescaling",
    "ResidualBlock",
    "SeparableConv2D",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SinusoidalPositions",
    "Softmax",
    "Softplus",
    "Tanh",
    "TransformerBlock",
    "from_torch",
    "initializers",
    "is_training",
    "next_rng",
]
