"""Attention and positions beside PyTorch and the formulas of their papers."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

import sillar as sl
from sillar import nn
from sillar.errors import DtypeError, ShapeError
from sillar.nn.positions import rotate
from sillar.testing import check_grads, check_layer
from sillar.testing.cases.layers import normal

KEYS = np.array([[True, True, False, True], [True, False, False, False]])
PAIRS = np.random.default_rng(1).random((2, 3, 4)) < 0.6
PAIRS[..., 0] = True  # PyTorch has no answer for a query that sees nothing
HEADS = np.random.default_rng(2).random((2, 2, 3, 4)) < 0.6
HEADS[..., 0] = True
MASKS = {
    "none": None,
    "keys": KEYS,
    "pairs": PAIRS,
    "heads": HEADS,
    "one-for-all": PAIRS[:1],
}


def tensor(x):
    return torch.tensor(np.asarray(x))


def near(expected, got, tolerance=1e-5):
    expected = expected.detach().numpy() if torch.is_tensor(expected) else expected
    scale = max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=tolerance * scale)


def drawn(layer, dtype="float32"):
    """Return the layer with values for all parameters, biases too."""
    layer.init(sl.Rng(0), dtype)
    for i, p in enumerate(layer.parameters().values()):
        p.data[...] += normal(*p.shape, seed=i) * 0.3
    return layer


def full(mask, heads, n):
    """Return a mask as (batch * heads, queries, keys), as PyTorch wants it."""
    if mask.ndim == 2:
        mask = mask[:, None, None]
    elif mask.ndim == 3:
        mask = mask[:, None]
    batch, m = 2, mask.shape[-1]
    return np.broadcast_to(mask, (batch, heads, n, m)).reshape(-1, n, m)


def gradients(y, variables, u):
    """Return PyTorch's gradients."""
    return torch.autograd.grad(y, variables, tensor(u))


def their_attention(layer, kv_width=None):
    """Return PyTorch's module of the same weights."""
    width, kv = layer.width, layer.kv_width
    theirs = torch.nn.MultiheadAttention(
        width, layer.heads, bias=layer.bias, kdim=kv, vdim=kv, batch_first=True
    )
    if kv is None or kv == width:
        weights = (
            layer.qkv.weight.data
            if kv is None
            else np.hstack([layer.query.weight.data, layer.key_value.weight.data])
        )
        theirs.in_proj_weight.data = tensor(weights.T)
    else:
        theirs.q_proj_weight.data = tensor(layer.query.weight.data.T)
        both = layer.key_value.weight.data
        theirs.k_proj_weight.data = tensor(both[:, :width].T)
        theirs.v_proj_weight.data = tensor(both[:, width:].T)
    theirs.out_proj.weight.data = tensor(layer.out.weight.data.T)
    if layer.bias:
        parts = [layer.qkv] if kv is None else [layer.query, layer.key_value]
        theirs.in_proj_bias.data = tensor(np.hstack([p.bias.data for p in parts]))
        theirs.out_proj.bias.data = tensor(layer.out.bias.data)
    return theirs


def compare(layer, arrays, mask=None):
    """Compare outputs and gradients, for the inputs and the last projection."""
    arrays = [a.astype("float32") for a in arrays]
    theirs = their_attention(drawn(layer))
    ours = [sl.Tensor(a, requires_grad=True) for a in arrays]
    inputs = [tensor(a).requires_grad_() for a in arrays]
    n, context = arrays[0].shape[1], inputs[-1]
    seen = None if mask is None else full(mask, layer.heads, n)
    if layer.causal:
        early = np.tri(n, context.shape[1], dtype=bool)
        seen = early if seen is None else seen & early
    hidden = None if seen is None else tensor(~seen)
    expected, _ = theirs(
        inputs[0], context, context, attn_mask=hidden, need_weights=False
    )
    y = layer(*ours, *([] if mask is None else [mask]))
    assert y.dtype == "float32"
    near(expected, y)
    u = normal(*y.shape, seed=9).astype("float32")
    found = sl.grad(y, [*ours, layer.out.weight], cotangents=sl.Tensor(u))
    wanted = gradients(expected, [*inputs, theirs.out_proj.weight], u)
    for mine, other in zip(found, [*wanted[:-1], wanted[-1].T], strict=True):
        near(other, mine)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_self_attention(causal, bias, mask):
    square = mask if mask is None or mask.ndim == 2 else mask[..., [0, 1, 2, 2], :]
    layer = nn.Attention(6, 2, causal=causal, bias=bias)
    compare(layer, [normal(2, 4, 6)], square)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv_width", [None, 6, 5])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_cross_attention(causal, kv_width, mask):
    layer = nn.Attention(6, 2, causal=causal, kv_width=kv_width)
    compare(layer, [normal(2, 3, 6), normal(2, 4, kv_width or 6, seed=1)], mask)


@pytest.mark.parametrize("shape", [(1, 1, 6), (0, 4, 6), (3, 1, 6), (2, 70, 6)])
def test_self_attention_of_few_and_of_many(shape):
    compare(nn.Attention(6, 3), [normal(*shape)])
    compare(nn.Attention(6, 1, causal=True), [normal(*shape)])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_of_ten_thousand(causal, dtype):
    layer = nn.Attention(4, 1, causal=causal, bias=False).init(sl.Rng(0), dtype)
    layer.qkv.weight.data[...] = np.hstack([np.eye(4)] * 3)  # exact, as are integers
    x = np.random.default_rng(0).integers(-90, 90, (2, 5, 4)).astype(dtype)
    x[:, 2] = x[:, 1]  # two keys alike share
    q = tensor(x)[:, None].requires_grad_()
    assert (q @ q.transpose(-1, -2)).abs().max() > 2e4
    expected = functional.scaled_dot_product_attention(q, q, q, is_causal=causal)
    expected = expected[:, 0] @ tensor(layer.out.weight.data)
    z = sl.Tensor(x, requires_grad=True)
    y = layer(z)
    near(expected, y)
    u = normal(2, 5, 4).astype(dtype)
    got = sl.grad(y, z, cotangents=sl.Tensor(u))
    rounding = 1e-5 if dtype == "float64" else 1e-3  # differences of large products
    near(gradients(expected, [q], u)[0][:, 0], got, rounding)


@pytest.mark.parametrize("causal", [False, True])
def test_a_query_that_sees_nothing_gives_the_last_bias_and_no_gradient(causal):
    layer = drawn(nn.Attention(4, 2, causal=causal))
    mask = np.array([[True, True, True], [False, False, False]])
    x = sl.Tensor(normal(2, 3, 4).astype("float32"), requires_grad=True)
    y = layer(x, mask)
    np.testing.assert_array_equal(
        y.numpy()[1], np.broadcast_to(layer.out.bias.numpy(), (3, 4))
    )
    g = sl.grad(y, x, cotangents=sl.Tensor(np.ones((2, 3, 4), "float32"))).numpy()
    assert np.isfinite(g).all()
    assert not g[1].any()
    assert g[0].any()


@pytest.mark.parametrize("mask", [KEYS, None], ids=["mask", "none"])
def test_what_is_not_seen_changes_nothing(mask):
    layer = drawn(nn.Attention(6, 2, causal=True))
    x = normal(2, 4, 6)
    changed = x.copy()
    changed[1, 3] += 1e3  # seen by itself alone, or by nobody
    more = [] if mask is None else [mask]
    before, after = layer(x, *more).numpy(), layer(changed, *more).numpy()
    np.testing.assert_allclose(before[0], after[0], atol=1e-12)
    np.testing.assert_allclose(before[1, :3], after[1, :3], atol=1e-12)
    assert (abs(before - after) > 1).any() == (mask is None)


def test_dropout_drops_weights_in_training_only():
    layer = nn.Attention(2, 1, dropout=0.4).init(sl.Rng(0), "float64")
    layer.out.weight.data[...] = np.eye(2)
    layer.qkv.weight.data[:, :4] = 0  # all weights are equal
    layer.qkv.weight.data[:, 4:] = np.eye(2)
    x = np.stack([np.eye(2)] * 500)
    parts = layer(x, rng=sl.Rng(3)).numpy() * 2 * 0.6  # each weight, kept or not
    np.testing.assert_allclose(parts, np.round(parts), atol=1e-12)
    assert abs(parts.mean() - 0.6) < 4 * math.sqrt(0.24 / parts.size)
    np.testing.assert_allclose(layer(x).numpy(), np.full((500, 2, 2), 0.5))
    np.testing.assert_array_equal(layer(x, rng=sl.Rng(3)).numpy() * 1.2, parts)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([np.ones((2, 3))], ShapeError, "a mask of truths or a context"),
        ([np.ones((2, 3, 5))], ShapeError, r"\(batch, tokens, 4\), got \(2, 3, 5\)"),
        ([np.ones((1, 3, 4))], ShapeError, "as many contexts as inputs"),
        ([np.ones((2, 3, 4)), np.ones((2, 3))], DtypeError, "make the mask boolean"),
        ([np.ones((2, 4), bool)], ShapeError, r"of sizes \(2, 2, 3, 3\) or 1, got \(2"),
        (
            [np.ones(3, bool)],
            ShapeError,
            r"expected a mask \(batch, keys\), \(batch, q",
        ),
        ([np.ones((2, 3, 3, 3), bool)], ShapeError, r"got \(2, 3, 3, 3\)"),
    ],
)
def test_wrong_contexts_and_masks(inputs, error, message):
    layer = nn.Attention(4, 2).init(sl.Rng(0))
    with pytest.raises(error, match=message):
        layer(np.ones((2, 3, 4)), *inputs)


LAYERS = {
    "Attention": (nn.Attention(2, 1, causal=True), [normal(2, 2, 2)]),
    "Attention-rotary": (nn.Attention(2, 1, rotary=True), [normal(2, 2, 2)]),
    "Attention-mask": (
        nn.Attention(2, 2),
        [normal(2, 2, 2), np.array([[True, False], [False, False]])],
    ),
    "Attention-context": (
        nn.Attention(2, 1, kv_width=1),
        [normal(2, 2, 2), normal(2, 2, 1)],
    ),
    "TransformerBlock": (
        nn.TransformerBlock(2, 1, causal=True, hidden=2),
        [normal(2, 2, 2)],
    ),
    "LearnedPositions": (nn.LearnedPositions(2, 2), [normal(2, 2, 2)]),
    "SinusoidalPositions": (nn.SinusoidalPositions(2), [normal(2, 2, 2)]),
}


@pytest.mark.parametrize(("layer", "inputs"), LAYERS.values(), ids=LAYERS)
def test_third_order(layer, inputs):
    check_layer(layer, *inputs, order=3)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_block_beside_pytorch(masked, causal):
    layer = drawn(nn.TransformerBlock(6, 2, causal=causal, hidden=10))
    theirs = torch.nn.TransformerEncoderLayer(
        6, 2, 10, 0.0, "gelu", batch_first=True, norm_first=True
    ).train()
    attention = their_attention(layer.attention)
    theirs.self_attn.load_state_dict(attention.state_dict())
    for ours, other in (
        (layer.attention_norm, theirs.norm1),
        (layer.mlp_norm, theirs.norm2),
        (layer.mlp[0], theirs.linear1),
        (layer.mlp[2], theirs.linear2),
    ):
        other.weight.data = tensor(ours.weight.data.T)
        other.bias.data = tensor(ours.bias.data)
    x = normal(2, 4, 6).astype("float32")
    ours, input_ = sl.Tensor(x, requires_grad=True), tensor(x).requires_grad_()
    expected = theirs(
        input_,
        src_mask=tensor(~np.tri(4, dtype=bool)) if causal else None,
        src_key_padding_mask=tensor(~KEYS) if masked else None,
    )
    y = layer(ours, *([KEYS] if masked else []))
    near(expected, y)
    u = normal(*y.shape, seed=9).astype("float32")
    weights = layer.attention_norm.weight, layer.mlp[2].weight
    found = sl.grad(y, [ours, *weights], cotangents=sl.Tensor(u))
    wanted = gradients(
        expected, [input_, theirs.norm1.weight, theirs.linear2.weight], u
    )
    for mine, other in zip(found, wanted, strict=True):
        near(other.T if other.ndim == 2 else other, mine)


def test_blocks_and_positions_in_a_sequence():
    model = nn.Sequential(
        nn.Embedding(7, 4),
        nn.LearnedPositions(5, 4),
        nn.TransformerBlock(4, 2, causal=True),
        nn.SinusoidalPositions(4),
        nn.TransformerBlock(4, 2, rotary=True),
        nn.Dense(4, 7),
    ).init(sl.Rng(0))
    assert model(np.array([[1, 2, 3]])).shape == (1, 3, 7)


def test_sinusoidal_positions_are_the_papers():
    got = nn.SinusoidalPositions(6)(np.zeros((1, 50, 6))).numpy()[0]
    for t, i in itertools.product(range(50), range(3)):
        angle = t / 10000 ** (2 * i / 6)
        pair = math.sin(angle), math.cos(angle)
        np.testing.assert_allclose(got[t, 2 * i : 2 * i + 2], pair, atol=1e-12)


def test_rotary_positions_are_a_product_of_complex_numbers():
    x = normal(2, 3, 9, 6)
    angles = np.arange(9)[:, None] / 10000 ** (np.arange(0, 6, 2) / 6)
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    expected = np.stack([turned.real, turned.imag], -1).reshape(x.shape)
    np.testing.assert_allclose(rotate(sl.Tensor(x)).numpy(), expected, atol=1e-12)
    check_grads(rotate, [normal(2, 3, 4)], order=2)


def test_rotary_products_depend_on_the_distance_alone():
    q, k = normal(6), normal(6, seed=1)
    turned = [rotate(sl.Tensor(np.stack([x] * 8))).numpy() for x in (q, k)]
    products = turned[0] @ turned[1].T
    for distance in range(-7, 8):
        along = np.diagonal(products, distance)
        np.testing.assert_allclose(along, along[0], atol=1e-12)
    assert products[0, 0] != pytest.approx(products[0, 1])
