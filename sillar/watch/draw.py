"""`draw`: the graph of a computation as a picture that fits on a screen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath

from sillar.core.tensor import Tensor
from sillar.errors import ConfigError, DependencyError
from sillar.files import replacing
from sillar.nn import Layer
from sillar.watch.fold import fold
from sillar.watch.graph import Graph, Path, as_path, graph_of
from sillar.watch.sheet import Sheet

FORMATS = (".svg", ".png", ".pdf")


class Drawing:
    """A drawing: `dot` is its text, `boxes` how many there are in it.

    It stands for `operations` recorded operations.
    """

    def __init__(self, text: str, operations: int, boxes: int) -> None:
        self.dot, self.operations, self.boxes = text, operations, boxes

    def svg(self) -> str:
        """Return the picture as SVG, laid out by Graphviz."""
        return self._rendered("svg").decode()

    def save(self, path: str | FilePath) -> None:
        """Write the picture; the ending says how: .svg, .png, .pdf, .dot or .gv."""
        ending = FilePath(path).suffix.lower()
        if ending not in (*FORMATS, ".dot", ".gv"):
            raise ConfigError(
                f"draw: expected a file that ends in {', '.join(FORMATS)}, .dot or"
                f" .gv, got {str(path)!r}"
            )
        text = ending in (".dot", ".gv")
        data = self.dot.encode() if text else self._rendered(ending[1:])
        with replacing(str(path)) as file:
            file.write(data)

    def _rendered(self, form: str) -> bytes:
        try:
            import graphviz
        except ImportError:
            raise DependencyError(
                "draw: pictures need the package graphviz: pip install graphviz; the"
                " DOT text needs nothing, take .dot or save to a file that ends in .dot"
            ) from None
        try:
            return bytes(graphviz.Source(self.dot).pipe(format=form))
        except graphviz.ExecutableNotFound:
            raise DependencyError(
                "draw: pictures need the program dot: install Graphviz, as in apt-get"
                " install graphviz; the DOT text needs nothing, take .dot or save to a"
                " file that ends in .dot"
            ) from None

    def __str__(self) -> str:
        return self.dot


def draw(
    output: Tensor | Callable[[], Tensor],
    model: Layer | None = None,
    *,
    unfold: Sequence[str] | bool = (),
    gradients: bool = False,
    limit: int = 60,
) -> Drawing:
    """Return a drawing of how `output` was computed, in at most `limit` boxes.

    A function instead of a tensor is called and listened to, so that the layer of
    every operation is known, not only of those that take a parameter of `model`.
    `unfold` names layers to be shown down to their operations and weights, or is True
    for all of them. With `gradients` colours show the norm of the gradient of a scalar
    output, where it leaves each box.
    """
    if limit < 4:
        raise ConfigError(f"draw: limit must be at least 4 boxes, got {limit}")
    graph = graph_of("draw", output, model)
    boxes = fold(graph, limit - 2, _wanted(graph, unfold))
    sheet = Sheet(graph, boxes, gradients, limit=math.inf if unfold else limit)
    return Drawing(sheet.text(), len(graph.tensors), sheet.count)


def _wanted(graph: Graph, unfold: Sequence[str] | bool) -> list[Path]:
    if isinstance(unfold, bool):
        return [()] if unfold else []
    names = (unfold,) if isinstance(unfold, str) else tuple(unfold)
    paths = [as_path(name) for name in names]
    for name, path in zip(names, paths, strict=True):
        if not any(p[: len(path)] == path for p in graph.paths):
            known = sorted({".".join(p) for p in graph.paths if p})
            more = f" and {len(known) - 8} more" if len(known) > 8 else ""
            raise ConfigError(
                f"draw: nothing was computed in {name!r:.60}: unfold a layer among"
                f" {', '.join(known[:8]) or 'none'}{more}"
            )
    return paths
