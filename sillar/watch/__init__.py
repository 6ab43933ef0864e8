"""Tools to see inside a computation: listeners at the waist, never parts of a layer."""

from sillar.core.listen import Listener

__all__ = ["Listener"]
