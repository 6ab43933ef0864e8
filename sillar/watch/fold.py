"""Many operations as few boxes: by layer, by repetition, and as stretches in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from sillar.watch.graph import Graph, Path
from sillar.watch.repeat import runs

CHUNKS = 8  # boxes for one run of repeated layers
PERIOD = 12  # layers or operations in what may be repeated
ROOM = 8  # boxes that a layer must have room for to be opened in part


class Box(NamedTuple):
    """What is drawn as one: some operations, what they are, and where.

    `inside` is the layer that was opened around it, () if none was.
    """

    operations: Sequence[int]
    title: str
    where: str
    inside: Path


class Part:
    """A layer: its sublayers and its own operations, in order of the first call."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind
        self.items: list[Part | int] = []
        self.operations: list[int] = []

    @property
    def parts(self) -> list[Part]:
        """Return the sublayers."""
        return [item for item in self.items if isinstance(item, Part)]

    @property
    def holds_layers(self) -> bool:
        """Say whether there are more sublayers than operations of its own."""
        return len(self.parts) * 2 > len(self.items)


def tree_of(graph: Graph) -> dict[Path, Part]:
    """Return a part for each layer by its path; () is the whole."""
    tree = {(): Part((), graph.kinds.get((), ""))}
    for i, path in enumerate(graph.paths):
        chain = [tree[()]]
        for depth in range(1, len(path) + 1):
            above = path[:depth]
            if above not in graph.kinds:
                continue  # a list that holds layers
            if above not in tree:
                tree[above] = Part(above, graph.kinds[above])
                chain[-1].items.append(tree[above])
            chain.append(tree[above])
        for part in chain:
            part.operations.append(i)
        chain[-1].items.append(i)
    return tree


def fold(graph: Graph, limit: int, unfold: Sequence[Path] = ()) -> list[Box]:
    """Return at most `limit` boxes, and more where layers are to be unfolded.

    Layers that hold layers are opened level by level while all of them fit. The last
    level may be opened in part: repeated layers, or else stretches, are one box then.
    """
    tree = tree_of(graph)
    opened, rooms = _opened(tree, limit)
    large = [part.path for part in tree.values() if len(part.operations) > 1]
    whole = {p for p in large if any(p[: len(w)] == w for w in unfold)}
    opened |= whole | {p for p in large if any(w[: len(p)] == p for w in unfold)}
    boxes = []
    for path in opened:
        room = None if path in whole else rooms.get(path)
        for items in _condensed(graph, tree[path].items, opened, room):
            boxes.append(_box(graph, items, path))
    return sorted(boxes, key=lambda box: box.operations[0])


def _opened(tree: dict[Path, Part], limit: int) -> tuple[set[Path], dict[Path, int]]:
    """Return the layers to open, and the room of those that are opened in part."""
    opened: set[Path] = {()}
    while level := _closed(tree, opened):
        if _size(tree, opened | level) > limit:
            break
        opened |= level
    rooms = {(): limit - _size(tree, opened - {()})}
    share = (limit - _size(tree, opened)) // max(1, len(level)) + 1
    if share >= ROOM:
        lists = {p for p in level if len(tree[p].parts) == len(tree[p].items)}
        opened |= lists
        rooms |= dict.fromkeys(lists, share)
    return opened, rooms


def _closed(tree: dict[Path, Part], opened: set[Path]) -> set[Path]:
    """Return the highest closed layers that are there to hold layers."""
    below = [part for path in opened for part in tree[path].parts]
    found = {part.path for part in below if part.holds_layers} - opened
    highest = min(map(len, found), default=0)
    return {path for path in found if len(path) == highest}


def _size(tree: dict[Path, Part], opened: set[Path]) -> int:
    """Return how many boxes the opened layers have."""
    items = [item for path in opened for item in tree[path].items]
    return sum(isinstance(i, int) or i.path not in opened for i in items)


def _condensed(
    graph: Graph, items: Sequence[Part | int], opened: set[Path], room: int | None
) -> list[list[Part | int]]:
    """Return what is drawn together: single items if there is room for all."""
    stretches: list[list[Part | int]] = [[]]
    for item in items:
        if isinstance(item, Part) and item.path in opened:
            stretches.append([])  # drawn by itself
        else:
            stretches[-1].append(item)
    count = sum(map(len, stretches))
    if room is None or count <= room:
        return [[item] for stretch in stretches for item in stretch]
    repeated = [g for stretch in stretches for g in _repeated(graph, stretch)]
    if len(repeated) <= room:
        return repeated
    size = -(-count // max(1, room))
    return [s[i : i + size] for s in stretches for i in range(0, len(s), size)]


def _repeated(graph: Graph, items: list[Part | int]) -> list[list[Part | int]]:
    """Return single items, and those of each run in a few groups."""
    groups = []
    for run in runs([_key(graph, item) for item in items], PERIOD):
        step = run.period * -(-run.times // CHUNKS)
        cuts = range(run.start, run.end, step)
        groups += [items[i : min(i + step, run.end)] for i in cuts]
    return groups


def _key(graph: Graph, item: Part | int) -> Hashable:
    if isinstance(item, int):
        y = graph.tensors[item]
        return y.node.primitive.name, y.shape
    last = graph.tensors[item.operations[-1]]
    return item.kind, len(item.operations), last.shape


def _name(graph: Graph, item: Part | int) -> str:
    if isinstance(item, Part):
        return item.kind or ".".join(item.path)
    return str(graph.tensors[item].node.primitive.name)


def _box(graph: Graph, items: Sequence[Part | int], inside: Path) -> Box:
    """Return the box of one item or of several."""
    first = items[0]
    if len(items) == 1:
        where = ".".join(first.path) if isinstance(first, Part) else ""
        operations = first.operations if isinstance(first, Part) else [first]
        return Box(operations, _name(graph, first), where, inside)
    operations = []
    for item in items:
        operations += item.operations if isinstance(item, Part) else [item]
    layers = [".".join(item.path) for item in items if isinstance(item, Part)]
    where = f"{layers[0]} … {layers[-1]}" if layers else ""
    return Box(sorted(operations), _summary(graph, items), where, inside)


def _summary(graph: Graph, items: Sequence[Part | int]) -> str:
    """Return what several items are: a repeated part, or the most frequent names."""
    keys = [_key(graph, item) for item in items]
    names = [_name(graph, item) for item in items]
    run = next(runs(keys, PERIOD, least=2))
    if run.end == len(keys) and run.times > 1:
        return f"{run.times} × {_few(names[: run.period])}"
    counts = Counter(names).most_common()
    return _few([f"{n} × {name}" if n > 1 else name for name, n in counts])


def _few(names: Sequence[str]) -> str:
    more = [f"{len(names) - 3} more"] if len(names) > 4 else []
    return ", ".join([*names[: 3 if more else 4], *more])
