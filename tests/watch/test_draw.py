"""`draw`: what stands on a drawing, how it folds, and that no name breaks it."""

import math
import os
import re
import shutil
import sys
import time
from importlib.util import find_spec
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.watch import draw

MISSING = shutil.which("dot") is None or find_spec("graphviz") is None
needs_dot = pytest.mark.skipif(
    MISSING and "CI" not in os.environ,
    reason="needs Graphviz: the program dot and the package graphviz",
)
NODE = re.compile(r"^ *(\w+) \[(?:.*, )?label=<<B>(.*?)</B>(.*)>\]$", re.MULTILINE)
EDGE = re.compile(r'^ *(\w+) -> (\w+) \[label="(.*?)"', re.MULTILINE)


def nodes(drawing):
    """Return what each node of a drawing says, by its name in the text."""
    found = NODE.findall(drawing.dot)
    return {name: re.sub("(<.*?>)+", "|", title + rest) for name, title, rest in found}


def arrows(drawing):
    """Return (from, to, shapes), the ends by their titles."""
    titles = {name: said.split("|")[0] for name, said in nodes(drawing).items()}
    return [
        (titles[a], titles[b], note.strip()) for a, b, note in EDGE.findall(drawing.dot)
    ]


def mlp():
    model = nn.Sequential(nn.Dense(6, 4), nn.ReLU(), nn.Dense(4, 3))
    return model.init(sl.Rng(0))


def loss_of(model, width=6, n=5):
    x = sl.Rng(1).normal((n, width))
    y = np.arange(n) % 3
    return lambda: sl.CrossEntropy()(model(x), y)


def chain(length):
    x = sl.Tensor(np.ones(3, "float32"), requires_grad=True)
    y = x
    for i in range(length):
        y = sl.sin(y) if i % 2 else y * 1.5
    return y.sum()


def test_layers_are_boxes_and_arrows_carry_shapes():
    model = mlp()
    drawing = draw(loss_of(model), model)
    expected = {
        ("data", "Dense(6, 4)", "(5, 6)"),
        ("Dense(6, 4)", "ReLU", "(5, 4)"),
        ("ReLU", "Dense(4, 3)", "(5, 4)"),
        ("Dense(4, 3)", "CrossEntropy", "(5, 3)"),
        ("CrossEntropy", "output", "()"),
    }
    assert expected <= set(arrows(drawing))
    said = "\n".join(nodes(drawing).values())
    assert "Dense(6, 4)|layers.0|2 operations|28 parameters|" in said
    assert drawing.boxes == len(nodes(drawing)) == 7


def test_a_tensor_computed_before_is_drawn_too():
    model = mlp()
    drawing = draw(loss_of(model)(), model)
    assert ("Dense(6, 4)", "relu", "(5, 4)") in arrows(drawing)
    assert ("relu", "Dense(4, 3)", "(5, 4)") in arrows(drawing)


def test_a_layer_unfolds_to_its_operations_and_weights():
    model = mlp()
    drawing = draw(loss_of(model), model, unfold=["layers.2"])
    expected = {
        ("weight", "matmul", ""),
        ("ReLU", "matmul", "(5, 4)"),
        ("matmul", "add", "(5, 3)"),
        ("bias", "add", ""),
    }
    assert expected <= set(arrows(drawing))
    assert "Dense(6, 4)" in str(nodes(drawing))
    assert "subgraph cluster" in drawing.dot


def test_everything_unfolds():
    model = mlp()
    drawing = draw(loss_of(model), model, unfold=True)
    titles = [said.split("|")[0] for said in nodes(drawing).values()]
    assert titles.count("matmul") == titles.count("weight") == 2
    assert drawing.boxes > drawing.operations


class Block(nn.Layer):
    """A block of a few operations of its own and two layers."""

    def __init__(self):
        self.first, self.second = nn.Dense(4, 4), nn.Dense(4, 4)

    def forward(self, x):
        return x + self.second(sl.tanh(self.first(x)) * 0.5)


class Tower(nn.Layer):
    def __init__(self, depth):
        self.blocks = [Block() for _ in range(depth)]
        self.head = nn.Dense(4, 3)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.mark.parametrize("heard", [True, False])
def test_ten_thousand_operations_fold_into_sixty_boxes(heard):
    model = Tower(1430).init(sl.Rng(0))
    loss = loss_of(model, 4, 2)
    drawing = draw(loss if heard else loss(), model)
    assert drawing.operations > 10_000
    assert len(nodes(drawing)) == drawing.boxes <= 60
    if heard:
        assert "179 × Block|blocks.0 … blocks.178|1,253 operations" in str(
            nodes(drawing)
        )


def test_different_layers_fold_as_stretches():
    rng = sl.Rng(0)
    sizes = [(7 * i) % 11 + 3 for i in range(501)]
    small = nn.initializers.small_normal
    pairs = pairwise(sizes)
    model = nn.Sequential(*(nn.Dense(a, b, initializer=small) for a, b in pairs)).init(
        rng
    )
    x = rng.normal((2, sizes[0]))
    drawing = draw(lambda: model(x).sum(), model, limit=20)
    assert 10 < drawing.boxes <= 20
    assert "layers.0 … layers." in str(nodes(drawing))


def test_blocks_stay_apart_while_they_fit_and_one_unfolds():
    model = Tower(12).init(sl.Rng(0))
    drawing = draw(loss_of(model, 4), model)
    titles = [said.split("|")[0] for said in nodes(drawing).values()]
    assert titles.count("Block") == 12
    opened = draw(loss_of(model, 4), model, unfold=["blocks.3"])
    titles = [said.split("|")[0] for said in nodes(opened).values()]
    assert titles.count("Block") == 11
    assert titles.count("tanh") == 1


def test_inner_layers_are_shown_where_there_is_room():
    pairs = [nn.Sequential(nn.Dense(4, 4), nn.ReLU()) for _ in range(3)]
    model = nn.Sequential(*pairs, Block()).init(sl.Rng(0))
    said = str(nodes(draw(loss_of(model, 4), model)))
    assert "Dense(4, 4)|layers.1.layers.0|2 operations" in said
    assert "Block|layers.3|7 operations" in said  # it computes more than it holds


def test_constants_of_a_layer_stay_inside_but_targets_are_drawn():
    class Causal(nn.Layer):
        def forward(self, x):
            allowed = np.tril(np.ones((5, 5), bool))
            scores = sl.where(allowed, x @ x.transpose(0, 2, 1), -1e9)
            return sl.softmax(scores) @ x

    model = nn.Sequential(nn.Dense(4, 4), Causal()).init(sl.Rng(0))
    x = sl.Rng(1).normal((2, 5, 4))
    folded = arrows(draw(lambda: sl.MSE()(model(x), x), model, limit=8))
    assert [b for a, b, _ in folded if a == "data"] == ["Dense(4, 4)", "MSE"]
    opened = draw(lambda: sl.MSE()(model(x), x), model, unfold=["layers.1"])
    assert ("data", "where", "(5, 5)") in arrows(opened)


def test_a_hundred_thousand_operations_do_not_recurse():
    loss = chain(100_000)
    start = time.perf_counter()
    drawing = draw(loss, gradients=True)
    assert time.perf_counter() - start < 60  # some 3 s, were it not for other work
    assert drawing.operations == 100_001
    assert drawing.boxes <= 60
    assert len(drawing.dot) < 20_000


def test_a_cell_called_again_and_again_is_one_box():
    cell = nn.Dense(4, 4).init(sl.Rng(0))
    x = sl.Rng(1).normal((2, 4))

    def run():
        h = sl.Tensor(x)
        for _ in range(50):
            h = sl.tanh(cell(h))
        return h.sum()

    assert draw(run, cell).boxes <= 60
    model = nn.Sequential(*[cell] * 50)
    drawing = draw(lambda: model(x).sum(), model)
    assert "100 operations|20 parameters" in str(nodes(drawing))


def test_a_shared_weight_is_drawn_where_it_is_used_again():
    model = nn.GPT(7, 8, blocks=1, heads=2, context=4).init(sl.Rng(0))
    tokens = sl.Rng(1).integers(0, 7, (2, 4))
    found = arrows(draw(lambda: model(tokens).sum(), model))
    assert ("weight", "transpose", "") in found
    assert [a for a, b, _ in found if b.startswith("Embedding")] == ["data", "weight"]


class Damped(nn.Layer):
    """The identity, with a gradient that is wrong by a factor."""

    def forward(self, x):
        return x * 1.0

    def backward(self, g, x):
        return (g * 1e-4,)


def test_colours_show_where_the_gradient_is_lost():
    model = nn.Sequential(nn.Dense(6, 4), Damped(), nn.Dense(4, 3)).init(sl.Rng(0))
    said = nodes(draw(loss_of(model), model, gradients=True)).values()
    sizes = {text.split("|")[0]: text for text in said}
    before, after = (
        float(re.search(r"gradient ([\d.e-]+)", sizes[name])[1])
        for name in ("Dense(6, 4)", "Damped")
    )
    assert before == pytest.approx(after * 1e-4, rel=1e-2)


def test_norms_are_those_of_the_gradient():
    x = sl.Tensor([[3.0, 4.0]], requires_grad=True)
    drawing = draw((x * 2.0).sum(), gradients=True)
    found = [s for s in nodes(drawing).values() if s.startswith("multiply")]
    assert f"gradient {math.sqrt(2):.3g}" in found[0]
    fills = re.findall(r'fillcolor="(#\w+)"', drawing.dot)
    assert len(set(fills)) > 2


def test_the_scale_spans_what_is_shown():
    model = mlp()
    drawing = draw(loss_of(model), model, gradients=True)
    sizes = [float(n) for n in re.findall(r">gradient ([\d.e-]+)<", drawing.dot)]
    marks = [float(n) for n in re.findall(r">(\d\.\de[+-]\d\d)<", drawing.dot)]
    assert marks[-1] == max(sizes) == 1
    assert marks == sorted(marks)
    assert marks[0] <= min(sizes)


def test_what_is_not_finite_has_a_colour_of_its_own():
    x = sl.Tensor([1.0, 0.0], requires_grad=True)
    with np.errstate(all="ignore"):
        drawing = draw(sl.sqrt(x * 1.0).sum(), gradients=True)
    assert "not finite" in drawing.dot
    assert "#d61fd6" in drawing.dot


class Named(nn.Layer):
    def __init__(self, names):
        self.held = {name: nn.Parameter((3,), nn.initializers.ones) for name in names}

    def forward(self, x):
        for p in self.held.values():
            x = x * p
        return x


HOSTILE = [
    '"]; evil [label="',
    "</TABLE>><B>",
    "a\nb\x1b[31m\x00",
    "back\\slash\\N\\",
    "<&amp;>",
    "x" * 5000,
]


@needs_dot
def test_hostile_names_stay_names():
    model = Named(HOSTILE).init(sl.Rng(0))
    x = np.ones((2, 3), "float32")
    drawing = draw(lambda: model(x).sum(), model, unfold=True, gradients=True)
    assert drawing.dot.isascii() or "\x1b" not in drawing.dot
    root = ElementTree.fromstring(drawing.svg())
    said = [
        "".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")
    ]
    for shown in ('"]; evil [label="', "</TABLE>><B>", "back\\slash\\N\\", "<&amp;>"):
        assert shown in said, said
    assert not [t for t in root.iter() if t.tag.endswith(("}script", "}a"))]


@needs_dot
def test_pictures_are_saved_by_their_ending(tmp_path):
    drawing = draw(chain(5))
    begins = {"a.svg": b"<?xml", "a.png": b"\x89PNG", "a.pdf": b"%PDF"}
    begins |= {"a.dot": b"digraph", "A.GV": b"digraph"}
    for name, first in begins.items():
        drawing.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(first)
    assert (tmp_path / "a.dot").read_text() == drawing.dot == str(drawing)


def test_the_text_needs_neither_package_nor_program(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", None)
    drawing = draw(chain(5))
    drawing.save(tmp_path / "a.dot")
    with pytest.raises(sl.errors.DependencyError, match="pip install graphviz"):
        drawing.svg()


@needs_dot
def test_a_missing_program_is_one_clear_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(sl.errors.DependencyError, match="install Graphviz"):
        draw(chain(5)).svg()


def test_mistakes_are_explained(tmp_path):
    model = mlp()
    with pytest.raises(sl.errors.GradientError, match="not computed from any"):
        draw(sl.Tensor([1.0]))
    with pytest.raises(sl.errors.GradientError, match="a tensor or a function"):
        draw(3.0)
    with pytest.raises(sl.errors.ConfigError, match=r"'blocks.7'.*layers.0, layers.1"):
        draw(loss_of(model), model, unfold=["blocks.7"])
    with pytest.raises(sl.errors.ConfigError, match="at least 4 boxes, got 3"):
        draw(chain(5), limit=3)
    with pytest.raises(sl.errors.ConfigError, match=r"ends in .svg.*'a.jpg'"):
        draw(chain(5)).save("a.jpg")
    with pytest.raises(sl.errors.GradientError, match="scalar"):
        draw(lambda: model(np.ones((2, 6), "float32")), model, gradients=True)


def test_the_smallest_limits_hold():
    model = Tower(40).init(sl.Rng(0))
    for limit in (4, 5, 9, 33):
        drawing = draw(loss_of(model, 4), model, limit=limit)
        assert len(nodes(drawing)) == drawing.boxes <= limit
