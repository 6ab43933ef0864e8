"""A back end that knows the Array API standard and nothing else."""

import array_api_strict
import numpy as np

from sillar.backends import Backend, backend_of

NUMPY = backend_of(np.zeros(1))
ARRAY_TYPE = type(array_api_strict.asarray(0.0))


def on_numpy(name):
    """Return the protocol function of the NumPy back end, for strict arrays."""

    def function(self, *args):
        result = getattr(NUMPY, name)(*map(plain, args))
        return array_api_strict.asarray(np.array(result))

    return function


def plain(value):
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(map(plain, value))
    return np.asarray(value) if isinstance(value, ARRAY_TYPE) else value


class StrictBackend(
    type("Protocol", (Backend,), {n: on_numpy(n) for n in Backend.__abstractmethods__})
):
    """The standard's namespace; the protocol's functions are NumPy's."""

    name = "strict"
    array_types = (ARRAY_TYPE,)

    def __init__(self):
        super().__init__(array_api_strict)

    def to_numpy(self, array):
        return np.asarray(array)
