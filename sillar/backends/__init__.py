"""Array libraries behind one small protocol; only `backends/x.py` imports library x."""

from sillar.backends import numpy as _numpy  # registers itself
from sillar.backends.base import (
    OPTIONAL,
    Array,
    Backend,
    Pair,
    Window,
    backend_of,
    backends,
    is_array,
    load,
    register,
    type_named,
)

__all__ = [
    "OPTIONAL",
    "Array",
    "Backend",
    "Pair",
    "Window",
    "backend_of",
    "backends",
    "is_array",
    "load",
    "register",
    "type_named",
]

register(_numpy.NumpyBackend())
