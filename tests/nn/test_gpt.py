"""The language model beside the same model written in PyTorch."""

import numpy as np
import pytest
import torch
from torch import nn as torch_nn
from torch.nn import functional

import sillar as sl
from sillar import nn
from sillar.nn.architecture import build, describe
from sillar.testing.cases.layers import normal

WORDS = np.random.default_rng(0).integers(0, 11, (3, 6))


class Theirs(torch_nn.Module):
    def __init__(self, tied):
        super().__init__()
        self.embedding = torch_nn.Embedding(11, 8)
        self.positions = torch_nn.Embedding(7, 8)
        self.layers = torch_nn.ModuleList(
            torch_nn.TransformerEncoderLayer(
                8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(2)
        )
        self.norm = torch_nn.LayerNorm(8)
        self.head = torch_nn.Linear(8, 11, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, words):
        x = self.embedding(words) + self.positions.weight[: words.shape[1]]
        hidden = torch.triu(torch.ones(2 * (words.shape[1],), dtype=bool), 1)
        for layer in self.layers:
            x = layer(x, src_mask=hidden)
        return self.head(self.norm(x))


def model(tied, **options):
    return nn.GPT(11, 8, blocks=2, heads=2, context=7, tied=tied, **options)


def near(expected, got):
    expected = expected.detach().numpy()
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("tied", [True, False])
def test_logits_loss_and_every_gradient_are_pytorchs(tied):
    theirs = Theirs(tied).train()
    for i, p in enumerate(theirs.parameters()):
        p.data += torch.tensor(normal(*p.shape, seed=i)) * 0.2
    state = dict(theirs.state_dict())
    if tied:
        del state["head.weight"]
    ours = nn.from_torch(model(tied), state)
    targets = np.roll(WORDS, -1, axis=1)

    expected = theirs(torch.tensor(WORDS))
    logits = ours(WORDS)
    near(expected, logits.numpy())

    loss = functional.cross_entropy(
        expected.reshape(-1, 11), torch.tensor(targets).reshape(-1)
    )
    loss.backward()
    slopes = {name: p.grad for name, p in theirs.named_parameters()}
    wanted = nn.from_torch(model(tied), slopes).parameters()
    ours_loss = sl.CrossEntropy()(logits.reshape(-1, 11), targets.reshape(-1))
    near(loss, ours_loss.numpy())
    for path, g in sl.grad(ours_loss, ours.parameters()).items():
        near(torch.tensor(wanted[path].numpy()), g.numpy())


def test_later_tokens_change_no_earlier_output():
    ours = model(True).init(sl.Rng(0))
    before = ours(WORDS).numpy()
    for t in range(WORDS.shape[1]):
        changed = WORDS.copy()
        changed[:, t] = (changed[:, t] + 1) % 11
        after = ours(changed).numpy()
        np.testing.assert_array_equal(before[:, :t], after[:, :t])
        assert (before[:, t:] != after[:, t:]).any(axis=-1).all()


def test_weights_start_small_and_smaller_where_a_branch_ends():
    ours = nn.GPT(65, 128, blocks=8, heads=4, context=64, tied=False).init(sl.Rng(0))
    for path, p in ours.parameters().items():
        if p.ndim == 2:
            end = path.endswith(("out.weight", "mlp.layers.2.weight"))
            expected = 0.02 / 4 if end else 0.02
            assert p.numpy().std() == pytest.approx(expected, rel=0.03), path
        else:
            constant = 1.0 if "norm" in path and path.endswith("weight") else 0.0
            assert (p.numpy() == constant).all(), path


def test_a_tied_head_has_no_weights_of_its_own_and_a_start_near_chance():
    tied, free = model(True), model(False)
    assert free.parameters().size - tied.parameters().size == 8 * 11
    logits = tied.init(sl.Rng(0))(WORDS).reshape(-1, 11)
    loss = sl.CrossEntropy()(logits, np.roll(WORDS, -1, axis=1).ravel())
    assert loss.item() == pytest.approx(np.log(11), abs=0.05)


def test_it_comes_back_from_its_description():
    ours = model(False, dropout=0.1, bias=False)
    assert describe(ours) == {
        "type": "GPT",
        "vocabulary": 11,
        "width": 8,
        "blocks": 2,
        "heads": 2,
        "context": 7,
        "dropout": 0.1,
        "bias": False,
        "tied": False,
    }
    assert [*build(describe(ours)).parameters()] == [*ours.parameters()]


def test_it_learns_to_count():
    ours = nn.GPT(8, 16, blocks=1, heads=2, context=8).init(sl.Rng(0))
    words = (np.arange(9) + np.arange(8)[:, None]) % 8
    optimizer = sl.Adam(lr=1e-2).bind(ours.parameters())
    for _ in range(60):
        loss = sl.CrossEntropy()(
            ours(words[:, :-1]).reshape(-1, 8), words[:, 1:].ravel()
        )
        optimizer.step(sl.grad(loss, optimizer.params))
    assert loss.item() < 0.05
