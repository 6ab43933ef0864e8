"""The same network, weights and optimizer in Sillar, PyTorch and JAX: step functions.

Each maker returns a function that applies one Adam update and returns the loss before.
"""

import numpy as np

import sillar as sl
from sillar import nn
from sillar.core.parameter import Parameter


def sillar_step(model, x, y, *, compiled):
    params, loss_of = model.parameters(), sl.CrossEntropy()
    optimizer = sl.Adam(1e-3).bind(params)

    def step(x, y):
        loss = loss_of(model(x), y)
        optimizer.step(sl.grad(loss, params))
        return loss

    run = sl.compile(step) if compiled else step
    return lambda: run(x, y).item()


def torch_step(model, x, y, *, compiled):
    import torch

    twin = torch.nn.Sequential(*[_torch_layer(torch, layer) for layer in model.layers])
    inputs = torch.tensor(x if x.ndim == 2 else x.transpose(0, 3, 1, 2).copy())
    labels, loss_of = torch.tensor(y), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(twin.parameters())
    run = torch.compile(twin) if compiled else twin

    def step():
        optimizer.zero_grad()
        loss = loss_of(run(inputs), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _torch_layer(torch, layer):
    if isinstance(layer, nn.Dense):
        made = torch.nn.Linear(layer.n_in, layer.n_out)
        weight = layer.weight.numpy().T
        if layer.n_in == 9216:  # channels come last here, first there
            weight = weight.reshape(-1, 12, 12, 64).transpose(0, 3, 1, 2)
        elif layer.n_in == 1600:
            weight = weight.reshape(-1, 5, 5, 64).transpose(0, 3, 1, 2)
        weight = weight.reshape(layer.n_out, layer.n_in)
    elif isinstance(layer, nn.Conv2D):
        made = torch.nn.Conv2d(layer.c_in, layer.c_out, layer.window.kernel)
        weight = layer.weight.numpy().transpose(3, 2, 0, 1)
    elif isinstance(layer, nn.MaxPool2D):
        return torch.nn.MaxPool2d(layer.size)
    else:
        return {nn.ReLU: torch.nn.ReLU, nn.Flatten: torch.nn.Flatten}[type(layer)]()
    with torch.no_grad():
        made.weight.copy_(torch.tensor(np.ascontiguousarray(weight)))
        made.bias.copy_(torch.tensor(layer.bias.numpy()))
    return made


def jax_step(model, x, y):
    import jax
    import jax.numpy as jnp

    weights = {
        i: (jnp.array(layer.weight.data), jnp.array(layer.bias.data))
        for i, layer in enumerate(model.layers)
        if isinstance(getattr(layer, "weight", None), Parameter)
    }

    def loss_of(weights, x, y):
        for i, layer in enumerate(model.layers):
            x = _jax_layer(jax, layer, weights.get(i), x)
        logs = jax.nn.log_softmax(x)
        return -jnp.mean(jnp.take_along_axis(logs, y[:, None], 1))

    def update(weights, m, v, t, x, y):
        loss, grads = jax.value_and_grad(loss_of)(weights, x, y)
        tree = jax.tree_util.tree_map
        m = tree(lambda a, g: 0.9 * a + 0.1 * g, m, grads)
        v = tree(lambda a, g: 0.999 * a + 0.001 * g * g, v, grads)
        weights = tree(
            lambda p, a, b: (
                p - 1e-3 * (a / (1 - 0.9**t)) / (jnp.sqrt(b / (1 - 0.999**t)) + 1e-8)
            ),
            *(weights, m, v),
        )
        return weights, m, v, loss

    run = jax.jit(update, donate_argnums=(0, 1, 2))
    zeros = jax.tree_util.tree_map(jnp.zeros_like, weights)
    state = [weights, zeros, jax.tree_util.tree_map(jnp.zeros_like, weights), 0.0]
    inputs, labels = jnp.array(x), jnp.array(y)

    def step():
        state[3] += 1.0
        *state[:3], loss = run(*state, inputs, labels)
        return float(loss)

    return step


def _jax_layer(jax, layer, weights, x):
    if isinstance(layer, nn.Dense):
        return x @ weights[0] + weights[1]
    if isinstance(layer, nn.Conv2D):
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            x, weights[0], (1, 1), "VALID", dimension_numbers=numbers
        )
        return y + weights[1]
    if isinstance(layer, nn.MaxPool2D):
        size = (1, layer.size, layer.size, 1)
        return jax.lax.reduce_window(x, -np.inf, jax.lax.max, size, size, "VALID")
    if isinstance(layer, nn.Flatten):
        return x.reshape(len(x), -1)
    return jax.nn.relu(x)
