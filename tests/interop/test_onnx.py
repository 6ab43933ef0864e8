"""ONNX: every layer goes out and comes back; files are read as if hostile."""

import json
import subprocess
import sys
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sillar as sl
from sillar import nn
from sillar.core import ops
from sillar.errors import ConfigError, FormatError, ShapeError, SillarError
from sillar.interop.onnx.nodes import FORMS
from sillar.testing.cases.layers import CASES
from sillar.testing.cases.primitives import CASES as PRIMITIVES
from sillar.testing.cases.primitives import CONSTANT

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from sillar.interop.onnx import export, load  # noqa: E402 - they need it too


def inputs_of(arrays):
    return [a.astype("float32") if a.dtype.kind == "f" else a for a in arrays]


def tuple_of(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def session_of(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(path, *inputs):
    session = session_of(path)
    names = [i.name for i in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


@pytest.mark.parametrize("name", CASES)
def test_every_layer_goes_out_and_comes_back(name, tmp_path):
    """Three ways to one result: ours, ONNX Runtime's, and ours from the file."""
    layer, arrays = CASES[name]
    layer.init(sl.Rng(0), "float32", keep=True)
    inputs = inputs_of(map(np.asarray, arrays))
    path = tmp_path / "layer.onnx"
    export(layer, path, *inputs)
    back = load(path)
    batch = [np.concatenate([x, x[::-1], x]) for x in inputs]
    expected = [y.numpy() for y in tuple_of(layer(*batch))]
    close = {"rtol": 1e-4, "atol": 1e-5}
    for y, theirs, ours in zip(
        expected, run(path, *batch), tuple_of(back(*batch)), strict=True
    ):
        np.testing.assert_allclose(theirs, y, **close)
        np.testing.assert_allclose(ours.numpy(), y, **close)


# What inference has no use for: draws, losses, and what only gradients compute.
UNNEEDED = {
    *("random_normal", "random_uniform", "cross_entropy", "cross_entropy_input"),
    *("conv_weight", "max_pool_at", "max_unpool", "sum_unpool", "scatter_add", "pack"),
    *("attention_slope", "batch_norm_input", "batch_norm_weight"),
    *("recurrent_slopes", "recurrent_input", "recurrent_weight"),
    "place",  # of an array on another back end
    # of training: statistics of the batch, and of shares of it
    *("batch_norm", "channel_squares", "over_shares"),
}


def test_every_primitive_has_a_form_or_a_reason():
    operations = [case[0] for case in (PRIMITIVES | CONSTANT).values()]
    names = {op.name for op in operations if hasattr(op, "name")}
    assert names - FORMS.keys() - UNNEEDED == set()
    assert UNNEEDED & FORMS.keys() == set()


class Own(nn.Layer):
    """A function as a layer."""

    def __init__(self, function):
        self.function = function

    def forward(self, *xs):
        return self.function(*xs)


X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
FUNCTIONS = {
    "elementwise": lambda x: sl.sin(x) * sl.cos(x) - sl.absolute(x) / (x * x + 1.0),
    "exponents": lambda x: sl.log1p(x * x) + sl.expm1(x * 0.1) + ops.normal_pdf(x),
    "comparisons": lambda x: sl.where((x > 0) == (x < 1), sl.sign(x), x != 0.0),
    "more": lambda x: sl.maximum(x, 0.3) + sl.minimum(x, x.T.T) + (x >= 0) * (x <= 1),
    "powers": lambda x: sl.absolute(x) ** 1.5 + (-x) ** 2,
    "sums": lambda x: (
        x.sum(axis=0, keepdims=True) * 0 + x.mean(axis=(1, 2))[:, None, None]
    ),
    "extremes": lambda x: x.max(axis=1) - x.min(axis=2).sum(axis=1)[:, None],
    "places": lambda x: sl.argmax(x, axis=2),
    "running": lambda x: sl.cumsum(x, axis=1),
    "einsum": lambda x: sl.einsum("bij,bkj->bik", x, x),
    "index": lambda x: x[:, ::-1, 1:][..., None, -1],
    "a-cell": lambda x: x[:, -1, 2],
    "joined": lambda x: sl.concat(x, x * 2.0, axis=-1).transpose(0, 2, 1),
    "widened": lambda x: ops.broadcast_to(x[:, :1], shape=x.shape) + 0.0,
    "truths": lambda x: ((x > 0) * (x < 1) + (x < -1)).astype("float32"),
    "padded": lambda x: ops.pad(x, widths=((0, 0), (1, 2), (0, 1)), value=2.0),
    "softmax": lambda x: sl.softmax(x, axis=1) + sl.logsumexp(x, axis=2, keepdims=True),
    "lse": lambda x: sl.logsumexp(x, axis=-1),
    "types": lambda x: (x * 3.0).astype("int64") + 1,
    "itself": lambda x: x,
    "twice": lambda x: (x, x * 2.0),
    "constant": lambda x: x * 0.0 + sl.Tensor(np.arange(4, dtype="float32")),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_layers_of_ones_own(name, tmp_path):
    layer = Own(FUNCTIONS[name])
    export(layer, tmp_path / "own.onnx", X)
    batch = np.concatenate([X, X * 3, X - 1])
    back = tuple_of(load(tmp_path / "own.onnx")(batch))
    for y, z in zip(tuple_of(layer(sl.Tensor(batch))), back, strict=True):
        np.testing.assert_allclose(z.numpy(), y.numpy(), rtol=1e-4, atol=1e-5)


def test_images_are_turned_once(tmp_path):
    """Channels are last here and first there; between layers they stay first."""
    model = nn.Sequential(
        *(nn.Conv2D(1, 8, 3, padding=1), nn.BatchNorm(8), nn.ReLU(), nn.MaxPool2D(2)),
        *(nn.Conv2D(8, 8, 3, padding="same"), nn.GELU(), nn.AvgPool2D(2)),
        *(nn.ResidualBlock(8, 16, stride=2), nn.GlobalAvgPool2D(), nn.Dense(16, 3)),
    ).init(sl.Rng(0))
    images = np.random.default_rng(0).random((2, 16, 16, 1), dtype="float32")
    export(model, tmp_path / "m.onnx", images)
    nodes = Counter(n.op_type for n in onnx.load(tmp_path / "m.onnx").graph.node)
    assert nodes["Transpose"] == 1
    assert nodes["Conv"] == 5


def model_of(seed=0):
    model = nn.Sequential(nn.Dense(4, 8), nn.Tanh(), nn.Dense(8, 2))
    return model.init(sl.Rng(seed))


ROWS = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")


def test_what_the_file_says_of_itself(tmp_path):
    notes = {"classes": ["usual", "attack"], "name": "x"}
    export(model_of(), tmp_path / "m.onnx", ROWS, metadata=notes)
    file = onnx.load(tmp_path / "m.onnx")
    assert (file.opset_import[0].version, file.ir_version) == (17, 8)
    assert file.producer_name == "sillar"
    kept = {p.key: p.value for p in file.metadata_props}
    assert json.loads(kept["classes"]) == ["usual", "attack"]
    assert kept["name"] == "x"
    (given,), (found,) = file.graph.input, file.graph.output
    assert (given.name, found.name) == ("input", "output")
    sizes = [
        [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (given, found)
    ]
    assert sizes == [["batch", 4], ["batch", 2]]
    names = {t.name for t in file.graph.initializer}
    assert {"layers.0.weight", "layers.0.bias", "layers.2.weight"} <= names


def test_equal_models_give_equal_bytes(tmp_path):
    for name in "ab":
        export(model_of(), tmp_path / name, ROWS)
    export(model_of(1), tmp_path / "c", ROWS)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_models_of_float64_become_float32(tmp_path):
    model = model_of().init(sl.Rng(0), "float64")
    export(model, tmp_path / "m.onnx", ROWS.astype("float64"))
    (found,) = run(tmp_path / "m.onnx", ROWS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, model(ROWS.astype(float)).numpy(), rtol=1e-5)


def test_a_model_that_came_back_is_trained_and_saved(tmp_path):
    export(model_of(), tmp_path / "m.onnx", ROWS)
    back = load(tmp_path / "m.onnx")
    assert set(back.parameters()) >= {"weights.layers.0.weight"}
    assert back.parameters().size == model_of().parameters().size
    ours, theirs = (
        sl.grad((m(ROWS) ** 2).sum(), m.parameters()) for m in (model_of(), back)
    )
    for path, slope in ours.items():
        np.testing.assert_allclose(
            theirs[f"weights.{path}"].numpy(), slope.numpy(), rtol=1e-4
        )
    part = sl.data.Dataset(ROWS, np.arange(5) % 2)
    run_ = sl.fit(back, sl.CrossEntropy(), sl.Adam(0.05), part, epochs=40, callbacks=())
    assert run_.metrics["accuracy"] == 1
    sl.save(back, tmp_path / "m.safetensors")
    again = sl.load(tmp_path / "m.safetensors", load(tmp_path / "m.onnx"))
    assert np.array_equal(again(ROWS).numpy(), back(ROWS).numpy())


def test_a_model_that_came_back_computes_on_another_back_end(tmp_path):
    pytest.importorskip("torch")
    export(
        nn.GPT(11, 8, blocks=1, heads=2, context=5).init(sl.Rng(0)),
        tmp_path / "m.onnx",
        np.array([[1, 2, 3, 4, 5]]),
    )
    back = load(tmp_path / "m.onnx")
    rows = np.array([[5, 4, 3, 2, 1], [1, 1, 1, 1, 1]])
    expected = back(rows).numpy()
    found = back.to("torch")(rows).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's, of this way out
def test_a_network_of_pytorch_comes_in(tmp_path):
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(
        *(torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.BatchNorm2d(6)),
        *(torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten()),
        *(torch.nn.Linear(96, 7), torch.nn.LeakyReLU(0.2), torch.nn.Linear(7, 2)),
    ).eval()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "torch.onnx"
    torch.onnx.export(net, (images,), path, dynamo=False, opset_version=17)
    expected = net(images).detach().numpy()
    np.testing.assert_allclose(load(path)(images.numpy()).numpy(), expected, atol=1e-5)


def test_what_depends_on_the_batch_is_refused(tmp_path):
    cases = {
        "another constant": lambda x: (
            x + sl.Tensor(np.arange(len(x), dtype="f")[:, None])
        ),
        "other arguments of 'multiply'": lambda x: x * float(len(x)),
        "other operations": lambda x: x * 2.0 if len(x) == 2 else x + 2.0,
    }
    for text, function in cases.items():
        with pytest.raises(ConfigError, match=text):
            export(Own(function), tmp_path / "m.onnx", ROWS)
    assert not [*tmp_path.iterdir()]


def test_nothing_is_written_if_onnx_runtime_does_not_agree(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ConfigError, match="away from the model's for 1 rows"):
        export(model_of(), path, ROWS, tolerance=1e-12)
    assert path.read_bytes() == b"old"
    assert len([*tmp_path.iterdir()]) == 1


def test_what_has_no_form_is_told(tmp_path):
    @sl.primitive
    def cube(xp, x):
        """Return x^3."""
        return x * x * x

    with pytest.raises(ConfigError, match="primitive 'cube' has no form"):
        export(Own(cube), tmp_path / "m.onnx", ROWS)
    with pytest.raises(ConfigError, match="example of each input"):
        export(model_of(), tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="example of each input"):
        export(model_of(), tmp_path / "m.onnx", ROWS[:0])
    with pytest.raises(ShapeError):
        export(model_of(), tmp_path / "m.onnx", ROWS[:, :3])


def graph_of(*nodes, inputs=("x",), outputs=("y",), weights=(), opset=17):
    """Return the bytes of a file, made by hand."""
    kind = onnx.TensorProto.FLOAT
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [*nodes],
        "by hand",
        [value(name, kind, None) for name in inputs],
        [value(name, kind, None) for name in outputs],
        [*weights],
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=opsets).SerializeToString()


node = onnx.helper.make_node


def outside():
    tensor = onnx.numpy_helper.from_array(ROWS, "w")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    tensor.ClearField("raw_data")
    return tensor


def huge():
    tensor = onnx.numpy_helper.from_array(ROWS, "w")
    tensor.dims[:] = [10**12, 10**6]
    return tensor


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x08\x08", "expected opset"),
        (b"not a model", "not an ONNX file"),
        (
            graph_of(node("Tanh", ["x"], ["y"]), opset=7),
            r"expected opset 13 to .* \[7\]",
        ),
        (graph_of(node("Fly", ["x"], ["y"])), "unknown operation Fly"),
        (graph_of(node("Tanh", ["x"], ["y"], domain="evil")), "unknown operation evil"),
        (
            graph_of(node("Tanh", ["a"], ["b"]), node("Tanh", ["b"], ["a"])),
            "'a' is not made before it",
        ),
        (graph_of(node("Tanh", ["x"], ["z"])), "output 'y' is never made"),
        (graph_of(node("Tanh", ["x"], ["y"]), outputs=()), "expected an output"),
        (graph_of(node("Add", ["x", "w"], ["y"]), weights=[outside()]), "another file"),
        (graph_of(node("Add", ["x", "w"], ["y"]), weights=[huge()]), "^onnx.load"),
        (graph_of(node("Constant", [], ["y"], value_float=1.0)), "expected a tensor"),
    ],
)
def test_hostile_files_are_refused(data, text, tmp_path):
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(FormatError, match=text):
        load(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "bad",
    [
        node("Reshape", ["x", "x"], ["y"]),
        node("Squeeze", ["x"], ["y"]),
        node("Transpose", ["x"], ["y"], perm=[0, 5]),
        node("Concat", ["x", "x"], ["y"]),
        node("Conv", ["x", "x"], ["y"], auto_pad="SAME_UPPER"),
        node("Cast", ["x"], ["y"], to=99),
        node("LSTM", ["x", "x", "x"], ["y"], direction="reverse"),
        node("MaxPool", ["x"], ["y"]),
        node("Einsum", ["x"], ["y"], equation="?"),
        node("Softmax", ["x"], ["y"], axis=7),
    ],
    ids=lambda bad: bad.op_type,
)
def test_nodes_that_make_no_sense_are_told_when_they_compute(bad, tmp_path):
    (tmp_path / "m.onnx").write_bytes(graph_of(bad))
    layer = load(tmp_path / "m.onnx")
    if bad.op_type == "Squeeze":
        assert layer(ROWS).shape == (5, 4)
        return
    with pytest.raises(SillarError):
        layer(ROWS)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    export(model_of(), path, ROWS)
    return path.read_bytes()


CHANGE = st.tuples(st.integers(0, 10**6), st.integers(0, 255))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4
    )
)
def test_damaged_files_raise_nothing_but_our_errors(small, tmp_path_factory, changes):
    data = bytearray(small)
    for place, value in changes:
        data[place % len(data)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(bytes(data))
    with suppress(SillarError):
        load(path)(ROWS)


def test_inputs_are_counted(tmp_path):
    export(model_of(), tmp_path / "m.onnx", ROWS)
    with pytest.raises(ShapeError, match=r"expected 1 inputs \['input'\], got 2"):
        load(tmp_path / "m.onnx")(ROWS, ROWS)


def test_without_the_library_one_sentence_says_so():
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "import sillar\n"
        "try: import sillar.interop.onnx\n"
        "except sillar.errors.DependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'sillar[onnx]'" in done.stdout
    assert done.stdout.count("\n") == 1
