"""TableTransform against scikit-learn's, and what it must not learn from."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import sillar as sl
from sillar import nn
from sillar.data import TableTransform, read_columns
from sillar.errors import ConfigError, DataError, FormatError

FLOWS = {
    "bytes": ["10", "20", "60", "", "10"],
    "proto": ["tcp", "udp", "tcp", "icmp", ""],
}


def test_equals_scikit_learn():
    rng = np.random.default_rng(0)
    x, words = rng.normal(5, 3, 50), rng.choice(["a", "b", "c"], 50)
    made = TableTransform().fit({"x": x, "w": words})({"x": x, "w": words})
    np.testing.assert_allclose(
        made[:, :1], StandardScaler().fit_transform(x[:, None]), rtol=1e-5, atol=1e-6
    )
    hot = OneHotEncoder(sparse_output=False).fit_transform(words[:, None])
    np.testing.assert_array_equal(made[:, 1:], hot)
    assert made.dtype == np.float32


def test_missing_values_are_the_median_and_say_so():
    transform = TableTransform().fit(FLOWS)
    assert transform.names == (
        *("bytes", "bytes is missing", "proto=", "proto=icmp", "proto=tcp"),
        "proto=udp",
    )
    rows = transform(FLOWS)
    known = np.array([10.0, 20, 60, 10])
    expected = (np.array([10, 20, 60, 15, 10]) - known.mean()) / known.std()
    np.testing.assert_allclose(rows[:, 0], expected, rtol=1e-6)
    assert rows[:, 1].tolist() == [0, 0, 0, 1, 0]
    assert rows[:, 2:].sum(axis=1).tolist() == [1] * 5


@pytest.mark.parametrize("text", ["", "NA", "nan", "?", "NULL", "inf", "-inf"])
def test_what_counts_as_missing_in_numbers(text):
    rows = TableTransform(numbers=["x"]).fit({"x": ["1", "3", text]})
    assert rows({"x": [text]})[0].tolist() == [0.0, 1.0]


def test_a_value_never_seen_is_none_of_the_known_ones():
    transform = TableTransform().fit(FLOWS)
    assert transform({"bytes": ["10"], "proto": ["gre"]})[0, 2:].tolist() == [0] * 4


def test_log_and_limits():
    x = np.array([0.0, 1.0, 10.0, -10.0])
    transform = TableTransform(log=["x"]).fit({"x": x})
    z = np.sign(x) * np.log1p(np.abs(x))
    expected = (z - z.mean()) / z.std()
    np.testing.assert_allclose(transform({"x": x})[:, 0], expected, rtol=1e-5)
    assert TableTransform().fit({"x": x})({"x": [1e300]})[0, 0] == 10.0


def test_the_largest_numbers_there_are_have_a_scale():
    x = np.array([1.7e308, -1.7e308, 0.0, 1.2e308])
    transform = TableTransform().fit({"a": x})
    small = TableTransform().fit({"a": x / 1e308})
    np.testing.assert_allclose(
        transform({"a": x}), small({"a": x / 1e308}), rtol=1e-6, atol=1e-6
    )
    described = transform.describe()
    assert TableTransform.build(described).describe() == described


def test_constant_and_empty_columns_do_no_harm():
    columns = {"same": ["7"] * 3, "none": ["", "", ""]}
    rows = TableTransform(numbers=["same", "none"]).fit(columns)(columns)
    assert np.isfinite(rows).all()
    assert rows[:, 0].tolist() == [0.0] * 3
    empty = TableTransform().fit(columns)({"same": [], "none": []})
    assert empty.shape == (0, rows.shape[1])


def test_integers_may_be_categories_and_columns_may_be_left_out():
    columns = {"port": ["80", "22"], "id": ["a1", "a2"]}
    transform = TableTransform(categories=["port"], drop=["id"]).fit(columns)
    assert transform.names == ("port=22", "port=80")
    assert transform({"port": ["80"], "id": ["x"], "more": ["y"]}).tolist() == [[0, 1]]


def test_nothing_of_later_rows_is_learned():
    """A canary: what only later rows hold changes nothing that is fitted."""
    later = {"bytes": ["1e9", "", "x"][:2], "proto": ["canary", "canary"]}
    before = TableTransform().fit(FLOWS)
    described = json.dumps(before.describe())
    before(later)
    assert json.dumps(before.describe()) == described
    assert "canary" not in described


def test_a_model_file_keeps_it(tmp_path):
    transform = TableTransform().fit(FLOWS)
    model = nn.Sequential(nn.Dense(6, 2)).init(sl.Rng(0))
    path = tmp_path / "m.safetensors"
    sl.save(model, path, encoder=transform)
    again = sl.load_encoder(path)
    assert again.names == transform.names
    np.testing.assert_array_equal(again(FLOWS), transform(FLOWS))


cells = st.one_of(st.text(max_size=4), st.floats(width=32).map(str), st.none())


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=12),
    more=st.lists(st.tuples(cells), max_size=5),
)
def test_any_cells_give_finite_rows(rows, more):
    a, b = map(list, zip(*rows, strict=True))
    transform = TableTransform(categories=["b"]).fit({"a": a, "b": b})
    again = TableTransform.build(json.loads(json.dumps(transform.describe())))
    made = again({"a": a, "b": b})
    assert made.shape == (len(rows), len(transform.names))
    assert np.isfinite(made).all()
    unseen = [cell for (cell,) in more]
    if all(column["kind"] == "category" for column in transform.describe()["columns"]):
        assert np.isfinite(again({"a": unseen, "b": unseen})).all()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: TableTransform()({"a": ["1"]}), ConfigError, r"call fit\(columns\)"),
        (lambda: TableTransform().fit({}), DataError, "columns of one length"),
        (
            lambda: TableTransform().fit({"a": ["1"], "b": []}),
            DataError,
            "columns of one length",
        ),
        (
            lambda: TableTransform(numbers=["a"], categories=["a"]),
            ConfigError,
            "each column once",
        ),
        (
            lambda: TableTransform(drop=["b"]).fit({"a": ["1"]}),
            DataError,
            "no column 'b'",
        ),
        (
            lambda: TableTransform(drop=["a"]).fit({"a": ["1"]}),
            ConfigError,
            "no column is left",
        ),
        (
            lambda: TableTransform(numbers=["a"]).fit({"a": ["1", "tcp"]}),
            DataError,
            "expected numbers in 'a', got 'tcp'",
        ),
        (
            lambda: TableTransform().fit({"a": ["1"]})({"b": ["1"]}),
            DataError,
            "expected the column 'a'",
        ),
        (
            lambda: TableTransform().fit({"a": ["1"]})({"a": ["1", "x"]}),
            DataError,
            "got 'x' in row 1",
        ),
        (
            lambda: TableTransform().fit({"a": [f"id{i}" for i in range(5000)]}),
            DataError,
            "leave it out with drop",
        ),
    ],
)
def test_mistakes(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_hostile_description_is_refused():
    good = TableTransform().fit(FLOWS).describe()
    number, category = good["columns"]
    bad = [
        *(None, [], {}, {"columns": []}, {"type": "TableTransform", "columns": []}),
        {"columns": good["columns"]},
        {"type": "Other", "columns": good["columns"]},
        *(
            {"type": "TableTransform", "columns": [{**number, name: value}]}
            for name, value in (
                ("spread", 0.0),
                ("spread", math.inf),
                ("centre", "1"),
                ("log", 1),
                ("name", 3),
                ("kind", "image"),
                ("more", 1),
            )
        ),
        *(
            {"type": "TableTransform", "columns": [{**category, "values": values}]}
            for values in ("tcp", [1], ["a", "a"], ["x"] * 5000, None)
        ),
    ]
    for described in bad:
        with pytest.raises(FormatError, match=r"expected what describe\(\) gives"):
            TableTransform.build(described)


def test_columns_are_read_as_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('proto,bytes\ntcp,10\n"u,dp",\n')
    assert read_columns(path) == {"proto": ["tcp", "u,dp"], "bytes": ["10", ""]}
    path.write_text("tcp;10\nudp;20\n")
    assert read_columns(path, delimiter=";") == {"0": ["tcp", "udp"], "1": ["10", "20"]}
    path.write_text("a,b\n")
    with pytest.raises(DataError, match="expected rows below the names"):
        read_columns(path)
    path.write_text("a,b\n1\n")
    with pytest.raises(DataError, match="line 2: expected 2 cells"):
        read_columns(path)


def test_codes_are_the_last_columns_and_0_was_never_seen():
    columns = {"port": ["ssh", "http", "", "ssh"], "size": ["1", "2", "3", "4"]}
    transform = TableTransform(codes=["port"]).fit(columns)
    assert transform.names == ("size", "port")
    assert transform.sizes == (4,)
    rows = transform({"size": ["2.5"] * 4, "port": ["http", "gopher", "ssh", "?"]})
    assert rows[:, 1].tolist() == [2, 0, 3, 1]  # missing is a value that was seen
    again = TableTransform.build(json.loads(json.dumps(transform.describe())))
    assert np.array_equal(again(columns), transform(columns))
    assert TableTransform().fit(columns).sizes == ()
    with pytest.raises(ConfigError, match="each column once"):
        TableTransform(codes=["size"], numbers=["size"])


def test_vectors_of_codes_are_dense_over_one_hot_columns():
    columns = {"a": list("xyzxyz"), "b": list("112211"), "n": [*range(6)]}
    hot = TableTransform(categories=["a", "b"]).fit(columns)
    coded = TableTransform(codes=["a", "b"]).fit(columns)
    layer = nn.CodedDense(3, 4, coded.sizes).init(sl.Rng(0))
    dense = nn.Dense(6, 4).init(sl.Rng(0))
    a, b = (vectors.weight.data[1:] for vectors in layer.vectors)
    dense.weight.data[:] = np.concatenate([a, b, layer.weight.data])
    assert hot.names == ("a=x", "a=y", "a=z", "b=1", "b=2", "n")
    np.testing.assert_allclose(
        layer(coded(columns)).numpy(), dense(hot(columns)).numpy(), atol=1e-6
    )
