"""Losses through the public check, and against PyTorch, scikit-learn and formulas."""

import numpy as np
import pytest
import torch
import torch.nn.functional as torch_f
from sklearn.metrics import hinge_loss, log_loss

import sillar as sl
from sillar import nn
from sillar.errors import ConfigError, DataError, ShapeError
from sillar.testing import check_loss
from sillar.testing.cases.layers import normal
from sillar.testing.cases.losses import (
    BITS,
    CASES,
    LABELS,
    LOGITS,
    OTHERS,
    SCORES,
    SIGNS,
    SOFT,
    WEIGHTS,
)

REDUCTIONS = ["mean", "sum", "none"]
every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


@pytest.mark.parametrize(("loss", "prediction", "target"), CASES.values(), ids=CASES)
def test_losses_keep_the_promises_of_a_loss(loss, prediction, target):
    check_loss(loss, prediction, target)


def test_every_loss_has_a_case():
    losses = {
        name
        for name in nn.__all__
        if isinstance(getattr(nn, name), type)
        and issubclass(getattr(nn, name), nn.Loss)
    }
    assert losses - {"Loss"} == {type(loss).__name__ for loss, *_ in CASES.values()}


def torch_bits(p, t, **options):
    return torch_f.binary_cross_entropy_with_logits(p, t.to(p.dtype), **options)


# loss, PyTorch's function, prediction, target
TORCH = {
    "MSE": (nn.MSE, torch_f.mse_loss, SCORES, OTHERS),
    "MAE": (nn.MAE, torch_f.l1_loss, SCORES, OTHERS),
    "Huber": (
        lambda **r: nn.Huber(0.7, **r),
        lambda p, t, **r: torch_f.huber_loss(p, t, delta=0.7, **r),
        SCORES,
        OTHERS,
    ),
    "BinaryCrossEntropy": (nn.BinaryCrossEntropy, torch_bits, SCORES, BITS),
    "BinaryCrossEntropy-weight": (
        lambda **r: nn.BinaryCrossEntropy(positive_weight=3.0, **r),
        lambda p, t, **r: torch_bits(p, t, pos_weight=torch.tensor(3.0), **r),
        SCORES,
        BITS,
    ),
    "CrossEntropy-soft": (nn.CrossEntropy, torch_f.cross_entropy, LOGITS, SOFT),
    "CrossEntropy-soft-smooth": (
        lambda **r: nn.CrossEntropy(label_smoothing=0.3, **r),
        lambda p, t, **r: torch_f.cross_entropy(p, t, label_smoothing=0.3, **r),
        LOGITS,
        SOFT,
    ),
}
CROSS_ENTROPIES = [
    {},
    {"weights": WEIGHTS},
    {"label_smoothing": 0.2},
    {"ignore_index": -100},
    {"ignore_index": 1},
    {"weights": WEIGHTS, "label_smoothing": 0.2},
    {"weights": WEIGHTS, "ignore_index": 2, "label_smoothing": 0.1},
]


def assert_same(loss, theirs, prediction, target):
    """Compare values and gradients in float32 to 1e-5."""
    p = torch.tensor(prediction, dtype=torch.float32, requires_grad=True)
    t = torch.tensor(target)
    expected = theirs(p, t.float() if t.is_floating_point() else t)
    expected.sum().backward()
    got = loss(prediction.astype("float32"), target)
    gradient = loss.gradient(prediction.astype("float32"), target)
    assert (got.dtype, gradient.dtype) == ("float32", "float32")
    np.testing.assert_allclose(expected.detach(), got.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(p.grad, gradient.numpy(), rtol=1e-5, atol=1e-6)


@every_reduction
@pytest.mark.parametrize(("make", "theirs", "p", "t"), TORCH.values(), ids=TORCH)
def test_losses_are_pytorchs(make, theirs, p, t, reduction):
    loss = make(reduction=reduction)
    assert_same(loss, lambda p, t: theirs(p, t, reduction=reduction), p, t)


@every_reduction
@pytest.mark.parametrize("options", CROSS_ENTROPIES, ids=lambda o: "+".join(o))
def test_cross_entropy_is_pytorchs(options, reduction):
    theirs = {"reduction": reduction, **options}
    if "weights" in theirs:
        theirs["weight"] = torch.tensor(theirs.pop("weights"))
    loss = nn.CrossEntropy(reduction=reduction, **options)
    assert_same(
        loss, lambda p, t: torch_f.cross_entropy(p, t, **theirs), LOGITS, LABELS
    )


def test_cross_entropy_of_sequences_is_pytorchs_with_classes_last():
    prediction, target = normal(2, 4, 3), np.array([[0, 1, 2, 2], [1, 1, 0, 2]])
    assert_same(
        nn.CrossEntropy(),
        lambda p, t: torch_f.cross_entropy(p.permute(0, 2, 1), t),
        prediction,
        target,
    )


def test_cross_entropy_of_certain_probabilities_is_that_of_labels():
    one_hot = np.eye(3)[LABELS]
    for options in CROSS_ENTROPIES[:3]:
        loss = nn.CrossEntropy(**options)
        expected, got = loss(LOGITS, LABELS).item(), loss(LOGITS, one_hot).item()
        np.testing.assert_allclose(expected, got, rtol=1e-12)


def test_cross_entropy_in_closed_form():
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    expected = -np.log(p[np.arange(5), LABELS])
    np.testing.assert_allclose(
        expected, nn.CrossEntropy(reduction="none")(LOGITS, LABELS).numpy()
    )
    np.testing.assert_allclose(
        log_loss(LABELS, p), nn.CrossEntropy()(LOGITS, LABELS).item()
    )
    uniform = nn.CrossEntropy()(np.zeros((4, 10)), np.zeros(4, int))
    np.testing.assert_allclose(np.log(10), uniform.item())


def test_binary_cross_entropy_in_closed_form():
    p = 1 / (1 + np.exp(-SCORES))
    expected = -(BITS * np.log(p) + (1 - BITS) * np.log(1 - p))
    got = nn.BinaryCrossEntropy(reduction="none")(SCORES, BITS)
    np.testing.assert_allclose(expected, got.numpy())


def test_distances_in_closed_form():
    d = SCORES - OTHERS
    huber = np.where(np.abs(d) <= 0.7, d * d / 2, 0.7 * (np.abs(d) - 0.35))
    for loss, expected in (
        (nn.MSE(reduction="none"), d * d),
        (nn.MAE(reduction="none"), np.abs(d)),
        (nn.Huber(0.7, reduction="none"), huber),
        (nn.Hinge(reduction="none"), np.maximum(0, 1 - SIGNS * SCORES)),
    ):
        target = SIGNS if type(loss) is nn.Hinge else OTHERS
        np.testing.assert_allclose(expected, loss(SCORES, target).numpy())


def test_hinge_is_scikit_learns():
    for i in range(3):
        expected = hinge_loss(BITS[:, i], SCORES[:, i], labels=[0, 1])
        got = nn.Hinge()(SCORES[:, i], SIGNS[:, i]).item()
        np.testing.assert_allclose(expected, got)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_is_its_formula(gamma):
    p = 1 / (1 + np.exp(-SCORES))
    p_t = np.where(BITS == 1, p, 1 - p)
    weight = np.where(BITS == 1, 0.25, 0.75)
    expected = -weight * (1 - p_t) ** gamma * np.log(p_t)
    loss = nn.Focal(gamma, alpha=0.25, reduction="none")
    np.testing.assert_allclose(expected, loss(SCORES, BITS).numpy())

    p = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    p_t = p[np.arange(5), LABELS]
    expected = -np.array(WEIGHTS)[LABELS] * (1 - p_t) ** gamma * np.log(p_t)
    loss = nn.Focal(gamma, alpha=WEIGHTS, reduction="none")
    np.testing.assert_allclose(expected, loss(LOGITS, LABELS).numpy())


def test_focal_without_focus_is_cross_entropy():
    for focal, plain, p, t in (
        (nn.Focal(0.0), nn.CrossEntropy(), LOGITS, LABELS),
        (nn.Focal(0.0), nn.BinaryCrossEntropy(), SCORES, BITS),
    ):
        np.testing.assert_allclose(plain(p, t).item(), focal(p, t).item())
        expected, got = plain.gradient(p, t).numpy(), focal.gradient(p, t).numpy()
        np.testing.assert_allclose(expected, got, atol=1e-12)


@every_reduction
def test_targets_that_are_all_ignored_cost_nothing(reduction):
    loss = nn.CrossEntropy(weights=WEIGHTS, ignore_index=-1, reduction=reduction)
    p = sl.Tensor(LOGITS, requires_grad=True)
    value = loss(p, np.full(5, -1))
    np.testing.assert_array_equal(np.zeros(value.shape), value.numpy())
    for gradient in (sl.grad(value.sum(), p), loss.gradient(p, np.full(5, -1))):
        np.testing.assert_array_equal(np.zeros_like(LOGITS), gradient.numpy())


FAR = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 1e4], [1e4, 1e4, 1e4], [-1e4, 0, 0]])
EXTREMES = {
    name: (loss, FAR, LABELS[:4] if t.shape == (5,) else (SOFT[:4] if t is SOFT else t))
    for name, (loss, p, t) in CASES.items()
    if p.shape in ((4, 3), (5, 3))
    and name != "Focal-classes-half"  # (1 - p)^0.5 has no second derivative at p = 1
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("loss", "p", "target"), EXTREMES.values(), ids=EXTREMES)
def test_extreme_predictions_have_finite_losses_and_gradients(loss, p, target, dtype):
    prediction = sl.Tensor(p.astype(dtype), requires_grad=True)
    value = loss(prediction, target)
    automatic = sl.grad(value, prediction, create_graph=True)
    second = sl.grad(automatic.sum(), prediction)
    for result in (value, automatic, loss.gradient(prediction, target), second):
        assert result.dtype == dtype
        assert np.all(np.isfinite(result.numpy()))
    expected = loss.gradient(prediction, target).numpy()
    np.testing.assert_allclose(expected, automatic.numpy(), rtol=1e-5, atol=1e-6)


def test_classes_ruled_out_by_minus_infinity_are_as_if_absent():
    masked = LOGITS.copy()
    masked[:, 1] = -np.inf
    labels, without = np.array([0, 2, 2, 2, 0]), np.delete(LOGITS, 1, axis=1)
    p = sl.Tensor(masked, requires_grad=True)
    for loss in (nn.CrossEntropy(), nn.Focal()):
        expected = loss.gradient(without, labels // 2).numpy()
        assert loss(masked, labels).item() == pytest.approx(
            loss(without, labels // 2).item()
        )
        for g in (sl.grad(loss(p, labels), p), loss.gradient(p, labels)):
            np.testing.assert_allclose(expected, np.delete(g.numpy(), 1, axis=1))
            np.testing.assert_array_equal(np.zeros(5), g.numpy()[:, 1])


@pytest.mark.parametrize(
    ("loss", "p", "target", "error", "message"),
    [
        (nn.MSE(), SCORES, OTHERS[0], ShapeError, r"\(4, 3\) and \(3,\)"),
        (nn.MSE(), SCORES[:, :1], SCORES[:, 0], ShapeError, r"\(4, 1\) and \(4,\)"),
        (nn.BinaryCrossEntropy(), SCORES, BITS[0], ShapeError, "equal shapes"),
        (nn.Hinge(), SCORES, BITS, DataError, r"-1 or \+1: write 2 \* y - 1"),
        (nn.Hinge(), SCORES[0], SIGNS, ShapeError, "equal shapes"),
        (nn.Focal(), SCORES, BITS * 2, DataError, "targets must be 0 or 1"),
        (nn.Focal(alpha=WEIGHTS), SCORES, BITS, ConfigError, "one number"),
        (nn.Focal(alpha=[1, 2]), LOGITS, LABELS, ShapeError, "3 weights alpha"),
        (nn.CrossEntropy(), LOGITS, LABELS[:4], ShapeError, r"\(5,\) .* got \(4,\)"),
        (nn.CrossEntropy(), LOGITS, SOFT[:, :2], ShapeError, r"got \(5, 2\)"),
        (nn.CrossEntropy(), np.array(1.0), LABELS, ShapeError, "expected labels"),
        (nn.CrossEntropy(), LOGITS, LABELS + 1, DataError, r"in \[0, 3\), got 3"),
        (nn.CrossEntropy(), LOGITS, LABELS - 1, DataError, r"in \[0, 3\), got -1"),
        (nn.CrossEntropy(), LOGITS, LABELS * 1.0, DataError, "integer labels"),
        (
            nn.CrossEntropy(weights=[1, 2]),
            LOGITS,
            LABELS,
            ShapeError,
            "3 class weights",
        ),
    ],
)
def test_mistakes_say_what_was_expected(loss, p, target, error, message):
    for f in (loss.compute, loss.gradient):
        with pytest.raises(error, match=message):
            f(p, target)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.MSE(reduction="average"), r"one of \('mean', 'sum', 'none'\)"),
        (lambda: nn.Huber(0), "delta must be > 0, got 0"),
        (
            lambda: nn.BinaryCrossEntropy(positive_weight=0),
            "positive_weight must be > 0",
        ),
        (lambda: nn.CrossEntropy(label_smoothing=1.5), r"in \[0, 1\], got 1.5"),
        (lambda: nn.CrossEntropy(weights=[1, -1]), "finite numbers >= 0"),
        (lambda: nn.CrossEntropy(weights=[[1, 2]]), "finite numbers >= 0"),
        (lambda: nn.CrossEntropy(weights=[float("nan")]), "finite numbers >= 0"),
        (lambda: nn.Focal(-1), "gamma must be >= 0, got -1"),
        (lambda: nn.Focal(alpha=2.0), r"alpha must be in \[0, 1\], got 2.0"),
    ],
)
def test_wrong_settings_name_the_setting_and_its_range(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_targets_may_be_of_any_kind_that_holds_them():
    for target in (BITS.astype(bool), BITS.astype("uint8"), BITS.astype("float64")):
        for loss in (nn.BinaryCrossEntropy(), nn.MSE(), nn.Focal()):
            expected = loss(SCORES.astype("float32"), BITS)
            got = loss(SCORES.astype("float32"), target)
            assert (got.dtype, got.item()) == ("float32", expected.item())
    for kind in ("uint8", "int32", "int64"):
        got = nn.CrossEntropy()(LOGITS, LABELS.astype(kind))
        assert got.item() == nn.CrossEntropy()(LOGITS, LABELS).item()
