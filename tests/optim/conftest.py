import numpy as np
import pytest

import sillar  # noqa: F401  binds the operators
from sillar.core.parameter import Parameter, Parameters


def zeros(rng, shape, dtype):
    return np.zeros(shape, dtype)


@pytest.fixture
def parameters():
    """Return make(dtype, **arrays): Parameters that hold a copy of the arrays."""

    def make(dtype="float64", /, **arrays):
        arrays = {path.replace("__", "."): np.asarray(a) for path, a in arrays.items()}
        params = Parameters({k: Parameter(a.shape, zeros) for k, a in arrays.items()})
        params.lay_out(dtype, lambda path, p: arrays[path])
        return params

    return make
