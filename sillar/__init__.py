"""Sillar: deep learning for security and blockchains, on NumPy alone."""

import sillar.core.operators  # noqa: F401  binds + @ [] onto Tensor
