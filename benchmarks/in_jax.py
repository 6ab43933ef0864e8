"""The networks in JAX: `trainer` and `server` make functions to be timed.

Weights carry PyTorch's names. A network is a function (weights, x, train) -> outputs
and the new running statistics. What was slower on CPUs is not used: `lax.scan` over the
steps of the LSTM, and `reduce_window` for the pooling, which takes 1.6 to 2.4 times as
long in the whole step.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.workloads import ALL, GPTS, RATE, STAGES

VECTORS = (0, 1)  # the tables of a GPT, of vectors: no matrices
TABLES = {(name, f"{i}.weight") for name in ("gpt", *GPTS) for i in VECTORS}
FLATTENED = {"cnn": "6.weight", "convnet": "7.weight"}  # reads images of 64 channels


def dense(w, name, x):
    return x @ w[f"{name}.weight"] + w[f"{name}.bias"]


def conv(w, name, x, stride=1, padding=0):
    y = jax.lax.conv_general_dilated(
        x,
        w[f"{name}.weight"],
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def pool(x):
    """Return the maxima of 2x2 cells."""
    n, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def layer_norm(w, name, x):
    x = x - x.mean(-1, keepdims=True)
    x = x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5)
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def batch_norm(w, name, x, train, moved):
    """Normalise each channel; put the new running statistics into `moved`."""
    mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    if train:
        running, count = (mean, var), x.size // x.shape[-1]
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        new = (mean, var * (count / (count - 1)))
        for key, old, now in zip(("mean", "var"), running, new, strict=True):
            moved[f"{name}.running_{key}"] = 0.9 * old + 0.1 * now
    scale = w[f"{name}.weight"] * jax.lax.rsqrt(var + 1e-5)
    return (x - mean) * scale + w[f"{name}.bias"]


def mlp(w, x, train):
    for i in (0, 2):
        x = jax.nn.relu(dense(w, str(i), x))
    return dense(w, "4", x), {}


def cnn(w, x, train):
    x = jax.nn.relu(conv(w, "2", jax.nn.relu(conv(w, "0", x))))
    x = pool(x).reshape(len(x), -1)
    return dense(w, "8", jax.nn.relu(dense(w, "6", x))), {}


def convnet(w, x, train):
    for i in (0, 3):
        x = pool(jax.nn.relu(conv(w, str(i), x)))
    return dense(w, "7", x.reshape(len(x), -1)), {}


def lstm(w, x, train):
    steps = jnp.swapaxes(x, 0, 1)
    for k in range(2):
        w_hh, bias = w[f"0.weight_hh_l{k}"], w[f"0.bias_hh_l{k}"]
        given = steps @ w[f"0.weight_ih_l{k}"] + w[f"0.bias_ih_l{k}"] + bias
        h = c = jnp.zeros((x.shape[0], 64), x.dtype)
        outputs = []
        for a in given:
            i, f, g, o = jnp.split(a + h @ w_hh, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            outputs.append(h)
        steps = jnp.stack(outputs)
    return dense(w, "1", steps[-1]), {}


def attention(w, name, x, heads):
    n, t, width = x.shape
    qkv = x @ w[f"{name}.in_proj_weight"] + w[f"{name}.in_proj_bias"]
    q, k, v = jnp.moveaxis(qkv.reshape(n, t, 3, heads, width // heads), 2, 0)
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    return dense(w, f"{name}.out_proj", y.reshape(x.shape))


def gpt(w, x, train, blocks=4, heads=4, tied=False):
    x = w["0.weight"][x] + w["1.weight"]
    for i in range(2, 2 + blocks):
        x = x + attention(w, f"{i}.self_attn", layer_norm(w, f"{i}.norm1", x), heads)
        y = dense(w, f"{i}.linear1", layer_norm(w, f"{i}.norm2", x))
        x = x + dense(w, f"{i}.linear2", jax.nn.gelu(y, approximate=False))
    x = layer_norm(w, str(2 + blocks), x)
    return x @ w["0.weight"].T if tied else dense(w, str(3 + blocks), x), {}


def residual(w, name, x, stride, train, moved):
    def norm(part, y):
        return batch_norm(w, f"{name}.{part}", y, train, moved)

    y = jax.nn.relu(norm("norm1", conv(w, f"{name}.conv1", x, stride, 1)))
    y = norm("norm2", conv(w, f"{name}.conv2", y, 1, 1))
    if stride > 1:
        x = norm("shortcut.1", conv(w, f"{name}.shortcut.0", x, stride))
    return jax.nn.relu(y + x)


def resnet(w, x, train):
    moved = {}
    x = jax.nn.relu(batch_norm(w, "1", conv(w, "0", x, 1, 1), train, moved))
    for i, stride in ((3, 1), (4, 2), (5, 2)):
        x = residual(w, str(i), x, stride, train, moved)
    return dense(w, "8", x.mean((1, 2))), moved


def resnet18(stages, w, x, train):
    moved = {}
    x = jax.nn.relu(batch_norm(w, "1", conv(w, "0", x, 1, 1), train, moved))
    for i, (_, stride) in enumerate(stages, 3):
        x = residual(w, str(i), x, stride, train, moved)
    return dense(w, str(4 + len(stages)), x.mean((1, 2))), moved


def tied_gpt(sizes):
    return partial(gpt, blocks=sizes.blocks, heads=sizes.heads, tied=True)


NETWORKS = {
    **{name: partial(resnet18, stages) for name, stages in STAGES.items()},
    **{name: tied_gpt(sizes) for name, sizes in GPTS.items()},
    "small": mlp,
    "mlp": mlp,
    "cnn": cnn,
    "lstm": lstm,
    "gpt": gpt,
    "convnet": convnet,
    "resnet": resnet,
}


def taken_over(name, weights):
    """Return PyTorch's weights with the axes that the networks here expect."""
    found = {}
    for key, value in weights.items():
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        elif value.ndim == 2 and (name, key) not in TABLES:
            value = value.T
        if FLATTENED.get(name) == key:
            rows = value.reshape(64, -1, value.shape[-1]).transpose(1, 0, 2)
            value = rows.reshape(value.shape)
        if not key.endswith("num_batches_tracked"):
            found[key] = jnp.array(np.ascontiguousarray(value))
    return found


def trainer(name, weights, x, y, *, half=False):
    """Return a function that does one step and returns the loss before it."""
    network = NETWORKS[ALL[name].network]
    weights = taken_over(name, weights)
    running = {k: weights.pop(k) for k in [*weights] if ".running_" in k}

    def loss_of(weights, running, x, y):
        if half:
            weights = jax.tree.map(lambda a: a.astype(jnp.bfloat16), weights)
        outputs, moved = network(weights | running, x, True)
        logs = jax.nn.log_softmax(outputs.astype(jnp.float32))
        return -jnp.take_along_axis(logs, y[..., None], -1).mean(), moved

    def update(weights, m, v, running, t, x, y):
        t = t + 1.0
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, running), g = gradient(weights, running, x, y)
        tree = jax.tree.map
        m = tree(lambda a, g: 0.9 * a + 0.1 * g, m, g)
        v = tree(lambda a, g: 0.999 * a + 0.001 * g * g, v, g)

        def moved(p, a, b):
            rate = RATE / (1 - 0.9**t)
            return p - rate * a / (jnp.sqrt(b / (1 - 0.999**t)) + 1e-8)

        return (tree(moved, weights, m, v), m, v, running, t), loss

    run = jax.jit(update, donate_argnums=(0, 1, 2, 3, 4))
    zeros = [jax.tree.map(jnp.zeros_like, weights) for _ in range(2)]
    state = (weights, *zeros, running, jnp.zeros(()))
    inputs, labels = jnp.array(x), jnp.array(y)

    def step():
        nonlocal state
        state, loss = run(*state, inputs, labels)
        return float(loss)

    return step


def server(name, weights):
    """Return a function from inputs to outputs, arrays of NumPy."""
    network = NETWORKS[ALL[name].network]
    weights = taken_over(name, weights)
    run = jax.jit(lambda w, x: network(w, x, False)[0])
    return lambda x: np.asarray(run(weights, x))
