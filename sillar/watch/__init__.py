"""Tools to see inside a computation: listeners at the waist, never parts of a layer."""

from sillar.core.listen import Listener
from sillar.watch.draw import Drawing, draw
from sillar.watch.nonfinite import find_nonfinite
from sillar.watch.replay import replay

__all__ = ["Drawing", "Listener", "draw", "find_nonfinite", "replay"]
