"""Sillar: deep learning for security and blockchains, on NumPy alone.

Tensors with gradients of every order are here; layers and losses in `sillar.nn`,
data in `sillar.data`, checks for your own classes in `sillar.testing`.
"""

import numpy  # noqa: F401  first: deep within our own imports it takes twice as long

import sillar.core.operators  # noqa: F401  binds + @ [] onto Tensor
from sillar import data, errors, nn, optim, train
from sillar.backends import backends
from sillar.backends.numpy.convolution import set_exact_convolution
from sillar.backends.numpy.threads import set_threads, threads
from sillar.core.compile import Compiled, compile
from sillar.core.functional import (
    clip,
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    mean,
    one_hot,
    silu,
    softmax,
    stack,
    variance,
)
from sillar.core.grad import grad
from sillar.core.ops import (
    absolute,
    argmax,
    concat,
    conv,
    cos,
    cumsum,
    einsum,
    erf,
    exp,
    expm1,
    log,
    log1p,
    logsumexp,
    maximum,
    minimum,
    relu,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    tanh,
    where,
)
from sillar.core.ops import max_ as max
from sillar.core.ops import min_ as min
from sillar.core.ops import product as matmul
from sillar.core.ops import sum_ as sum
from sillar.core.parameter import Buffer, Parameter, Parameters
from sillar.core.rng import Rng
from sillar.core.tape import Primitive, enable_grad, no_grad, primitive
from sillar.core.tensor import Tensor
from sillar.core.transforms import hessian, hvp, jacobian, jvp, vjp
from sillar.nn import (
    MAE,
    MSE,
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    Hinge,
    Huber,
    Layer,
    Loss,
)
from sillar.optim import (
    L1,
    L2,
    SGD,
    Accumulate,
    Adam,
    AdamW,
    ClipNorm,
    ClipValue,
    Constant,
    CosineAnnealing,
    CosineRestarts,
    ExponentialDecay,
    LinearWarmup,
    Lion,
    OneCycle,
    Optimizer,
    RMSprop,
    Schedule,
    SkipNonFinite,
    StepDecay,
    Transform,
)
from sillar.train import (
    Callback,
    Checkpoint,
    EarlyStopping,
    Progress,
    Run,
    evaluate,
    every,
    fit,
    load,
    load_encoder,
    predict,
    sample,
    save,
)

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import `testing` and `watch` when they are first used; training needs neither."""
    if name in ("testing", "watch"):
        from importlib import import_module

        return import_module(f"sillar.{name}")
    raise AttributeError(f"module 'sillar' has no attribute {name!r}")


__all__ = [
    "L1",
    "L2",
    "MAE",
    "MSE",
    "SGD",
    "Accumulate",
    "Adam",
    "AdamW",
    "BinaryCrossEntropy",
    "Buffer",
    "Callback",
    "Checkpoint",
    "ClipNorm",
    "ClipValue",
    "Compiled",
    "Constant",
    "CosineAnnealing",
    "CosineRestarts",
    "CrossEntropy",
    "EarlyStopping",
    "ExponentialDecay",
    "Focal",
    "Hinge",
    "Huber",
    "Layer",
    "LinearWarmup",
    "Lion",
    "Loss",
    "OneCycle",
    "Optimizer",
    "Parameter",
    "Parameters",
    "Primitive",
    "Progress",
    "RMSprop",
    "Rng",
    "Run",
    "Schedule",
    "SkipNonFinite",
    "StepDecay",
    "Tensor",
    "Transform",
    "__version__",
    "absolute",
    "argmax",
    "backends",
    "clip",
    "compile",
    "concat",
    "conv",
    "cos",
    "cumsum",
    "data",
    "einsum",
    "elu",
    "enable_grad",
    "erf",
    "errors",
    "evaluate",
    "every",
    "exp",
    "expm1",
    "fit",
    "gelu",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "leaky_relu",
    "load",
    "load_encoder",
    "log",
    "log1p",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "nn",
    "no_grad",
    "one_hot",
    "optim",
    "predict",
    "primitive",
    "relu",
    "sample",
    "save",
    "set_exact_convolution",
    "set_threads",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "softmax",
    "softplus",
    "sqrt",
    "stack",
    "sum",
    "tanh",
    "testing",
    "threads",
    "train",
    "variance",
    "vjp",
    "watch",
    "where",
]
