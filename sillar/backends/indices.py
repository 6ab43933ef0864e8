"""Indices in the words of libraries that know less of them than NumPy."""

from __future__ import annotations

from typing import Any

Index = tuple[Any, ...]


def forwards(index: Index, shape: tuple[int, ...]) -> tuple[Index, list[int]]:
    """Return the index with forward slices alone, and which axes to flip before."""
    if not any(map(_is_backward, index)):
        return index, []
    rest = len(shape) - sum(map(_axes, index))  # what an ellipsis stands for
    parts, axes, axis = [], [], 0
    for part in index:
        if _is_backward(part):
            places = range(*part.indices(shape[axis]))
            first = shape[axis] - 1 - places.start
            stop = first - len(places) * places.step
            part = slice(first, stop, -places.step) if places else slice(0, 0)
            axes.append(axis)
        axis += rest if part is Ellipsis else _axes(part)
        parts.append(part)
    return tuple(parts), axes


def _is_backward(part: Any) -> bool:
    return isinstance(part, slice) and (part.step or 1) < 0


def _axes(part: Any) -> int:
    """Return how many axes a part of an index takes; a mask takes its own."""
    if part is None or part is Ellipsis:
        return 0
    return int(part.ndim) if "bool" in str(getattr(part, "dtype", "")) else 1
