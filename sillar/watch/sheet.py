"""What stands on a drawing: boxes, what flows between them, data and parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sillar.core.parameter import Buffer, Parameter
from sillar.core.tensor import Tensor
from sillar.watch import dot
from sillar.watch.fold import Box
from sillar.watch.graph import Graph, Path, gradient_norms

TRAINED, PLAIN, OUTSIDE, DATA = "#d9e8f7", "#eef0f3", "#fcf0d8", "#dff0dc"
OUTPUT = -1  # in the place of a box

Tensors = dict[int, Tensor]  # by their ids


class Sheet:
    """Places boxes, and beside them data and parameters while there are few."""

    def __init__(
        self, graph: Graph, boxes: Sequence[Box], gradients: bool, *, limit: float
    ) -> None:
        self.graph, self.boxes = graph, boxes
        self.flows: dict[tuple[int, int], Tensors] = {}
        self.leaves: list[Tensors] = [{} for _ in boxes]  # not computed, but taken
        self._connect()
        self.norms = self._norms() if gradients else {}
        self.scale = dot.Scale(list(self.norms.values())) if gradients else None
        self.nodes: list[tuple[Path, str]] = []  # each with the layer around it
        self.edges: list[str] = []
        self.count = 0
        self._add_boxes()
        self._add_leaves(limit)

    def text(self) -> str:
        """Return the DOT text."""
        size = sum(p.size for p in _trained(self.leaves))
        message = f"{len(self.graph.tensors):,} operations, {size:,} parameters"
        if self.scale is None:
            message += " (blue boxes)\nArrows follow the data and carry its shape."
        else:
            message += "\nArrows follow the data. Colours: the norm of the gradient"
            message += "\nthat reaches the output of each box on the way back."
        head = f"  label={dot.heading(message, self.scale)}\n"
        arrows = "".join(f"  {edge}\n" for edge in self.edges)
        return f"{dot.HEAD}{head}{_framed(self.nodes, self.graph)}{arrows}}}\n"

    def _connect(self) -> None:
        """Find which tensors flow from box to box, and which were not computed."""
        box_of = {i: b for b, box in enumerate(self.boxes) for i in box.operations}
        made = {id(y): box_of[i] for i, y in enumerate(self.graph.tensors)}
        for i, y in enumerate(self.graph.tensors):
            here = box_of[i]
            for x in y.node.inputs:
                source = made.get(id(x))
                if source is None and isinstance(x, Tensor):
                    self.leaves[here][id(x)] = x
                elif source is not None and source != here:
                    self.flows.setdefault((source, here), {})[id(x)] = x
        out = self.graph.output
        self.flows[made[id(out)], OUTPUT] = {id(out): out}

    def _norms(self) -> dict[int, float]:
        """Return the norm of the gradient at all that is shown."""
        shown = {k: x for flow in self.flows.values() for k, x in flow.items()}
        for box, leaves in zip(self.boxes, self.leaves, strict=True):
            if _is_single(box):
                shown |= {k: x for k, x in leaves.items() if x.requires_grad}
        norms = gradient_norms(self.graph.output, list(shown.values()))
        return dict(zip(shown, norms, strict=True))

    def _add_boxes(self) -> None:
        out = self.graph.output
        value = (
            f"{float(out.data.reshape(())):.4g}" if out.size == 1 else str(out.shape)
        )
        self._add("output", ["output", value], (), fillcolor=DATA, shape="ellipse")
        leaving: list[Tensors] = [{} for _ in self.boxes]
        for (source, target), tensors in self.flows.items():
            leaving[source] |= tensors
            end = "output" if target == OUTPUT else f"b{target}"
            self._link(f"b{source}", end, tensors)
        for b, box in enumerate(self.boxes):
            names, fill = _described(box, _trained([self.leaves[b]]))
            self._add(f"b{b}", names, box.inside, leaving[b], fillcolor=fill)

    def _add_leaves(self, limit: float) -> None:
        for b, name, shape, tensors in self._leaf_groups():
            if self.count >= limit:
                return
            own = f"leaf{self.count}"
            if name:
                note = [name, str(shape)]
                self._add(own, note, self.boxes[b].inside, tensors, shape="note")
            else:
                many = f"data, {len(tensors):,} arrays"
                name = "data" if len(tensors) == 1 else many
                self._add(own, [name], (), shape="ellipse", fillcolor=DATA)
            for user, taken in enumerate(self.leaves):
                if not taken.keys().isdisjoint(tensors):
                    self._link(own, f"b{user}", tensors, silent=shape is not None)

    def _leaf_groups(
        self,
    ) -> Iterator[tuple[int, str, tuple[int, ...] | None, Tensors]]:
        """Yield parameters with their names and shapes, and data without.

        Parameters are drawn beside single operations; boxes of many count them. So
        are masks and other constants; what enters a model or a loss is always drawn.
        """
        seen: set[int] = set()
        fed = {b for _, b in self.flows}
        for b, box in enumerate(self.boxes):
            single = _is_single(box)
            new = {k: x for k, x in self.leaves[b].items() if k not in seen and x.ndim}
            data = {k: x for k, x in new.items() if not isinstance(x, Parameter)}
            weights = {k: x for k, x in new.items() if k not in data and single}
            seen |= data.keys() | weights.keys()
            for k, x in weights.items():
                if not isinstance(x, Buffer):
                    name = self.graph.names.get(k, "parameter").rpartition(".")[2]
                    yield b, name, x.shape, {k: x}
            if data and (single or b not in fed or _outside(box)):
                yield b, "", None, data

    def _add(
        self,
        own: str,
        names: Sequence[str],
        inside: Path,
        gradients: Iterable[int] = (),
        **form: str,
    ) -> None:
        """Add a node, in the colour of the gradients if there are any."""
        form = {"fillcolor": TRAINED} | form
        if form.get("shape") == "note":
            form["style"] = "filled"
        if self.scale is not None and gradients:
            size = self._size(gradients)
            names = [*names, f"gradient {size:.3g}"]
            form["fillcolor"] = self.scale.colour(size)
            form["fontcolor"] = dot.ink(form["fillcolor"])
        form["label"] = dot.lines(*names)
        self.nodes.append((inside, f"{own} {dot.attributes(form)}"))
        self.count += 1

    def _link(self, a: str, b: str, tensors: Tensors, *, silent: bool = False) -> None:
        """Add an arrow with the shapes of what flows, unless they stand elsewhere."""
        shapes = [str(s) for s in dict.fromkeys(x.shape for x in tensors.values())]
        more = [f"and {len(shapes) - 2} more"] if len(shapes) > 2 else []
        note = "" if silent else "\\n".join(f" {s}" for s in shapes[:2] + more)
        form = {"label": f'"{note}"'}
        if self.scale is not None and not tensors.keys().isdisjoint(self.norms):
            form["color"] = self.scale.colour(self._size(tensors))
            form["penwidth"] = "2.5"
        self.edges.append(f"{a} -> {b} {dot.attributes(form)}")

    def _size(self, tensors: Iterable[int]) -> float:
        return math.hypot(*(self.norms.get(k, 0.0) for k in tensors))


def _described(box: Box, trained: Sequence[Parameter]) -> tuple[list[str], str]:
    """Return what a box says, line by line, and its colour."""
    names = [box.title]
    if box.where not in ("", box.title):
        names.append(box.where)
    if len(box.operations) > 1:
        names.append(f"{len(box.operations):,} operations")
    if trained and (box.where or len(box.operations) > 1):
        names.append(f"{sum(p.size for p in trained):,} parameters")
    return names, TRAINED if trained else OUTSIDE if _outside(box) else PLAIN


def _is_single(box: Box) -> bool:
    """Say whether a box is an operation by itself, beside which weights are drawn."""
    return len(box.operations) == 1 and not box.where


def _outside(box: Box) -> bool:
    """Say whether a box is no part of the model, but a loss or the user's own code."""
    return box.where in ("", box.title) and not box.inside


def _trained(leaves: Iterable[Mapping[int, Tensor]]) -> list[Parameter]:
    """Return each trained parameter once."""
    found = {k: x for own in leaves for k, x in own.items()}
    return [x for x in found.values() if isinstance(x, Parameter) and x.trained]


def _framed(nodes: Sequence[tuple[Path, str]], graph: Graph) -> str:
    """Return the nodes, framed by the layers that were opened around them."""
    rows: list[str] = []
    opened: list[Path] = []
    for inside, node in sorted(nodes, key=lambda pair: pair[0]):
        while opened and inside[: len(opened[-1])] != opened[-1]:
            opened.pop()
            rows.append("}")
        for path in (inside[: n + 1] for n in range(len(inside))):
            if path in graph.kinds and path not in opened:
                opened.append(path)
                where = ".".join(path)
                names = dict.fromkeys([graph.kinds[path] or where, where])
                rows.append(f"subgraph cluster{len(rows)} {{ {dot.FRAME}")
                rows.append(f"label={dot.lines(*names)}")
        rows.append(node)
    rows += "}" * len(opened)
    return "".join(f"  {row}\n" for row in rows)
