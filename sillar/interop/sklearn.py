"""A classifier and a regressor of scikit-learn around any model.

They pass scikit-learn's `check_estimator`: they can be cloned, searched, calibrated,
put into pipelines and pickled. Settings have the names and defaults of its
MLPClassifier where that has them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np

from sillar.core.functional import softmax
from sillar.core.rng import Rng
from sillar.core.tensor import Tensor
from sillar.data import Dataset
from sillar.errors import ConfigError, ShapeError, missing
from sillar.nn import MSE, CrossEntropy, Dense, Layer, Loss, ReLU, Sequential
from sillar.nn.initializers import xavier_uniform
from sillar.optim import Adam, Optimizer
from sillar.train import Callback, EarlyStopping, Progress, fit, predict

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_class_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise missing("scikit-learn", "sklearn", "an estimator of scikit-learn") from None

Model = Layer | Callable[[int, int], Layer] | None
FLOATS = [np.float64, np.float32]  # kept as they come; others become the first
BATCH = 200  # rows of a batch, if there are so many


class _Estimator(BaseEstimator):
    """What both have in common: training, and what it leaves."""

    def _train(self, x: np.ndarray, y: np.ndarray, loss: Loss, n_out: int) -> None:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        model = self._model_to_train(x, n_out, seed)
        run = fit(
            model,
            loss,
            copy.deepcopy(self.optimizer) or Adam(self.lr),
            Dataset(x, y),
            validation=self.validation_fraction if self.early_stopping else None,
            epochs=self.epochs,
            batch_size=self.batch_size or min(BATCH, len(x)),
            seed=seed,
            callbacks=self._callbacks(),
        )
        self.model_ = model.to("numpy")
        self.history_ = run.history
        self.n_iter_ = run.epoch
        self.loss_ = run.metrics.get("loss", float("nan"))

    def _model_to_train(self, x: np.ndarray, n_out: int, seed: int) -> Layer:
        """Return the model to train, with the weights that were given, if any."""
        if self.warm_start and hasattr(self, "model_"):
            return self.model_.to(self.backend, self.device)
        model: Any = self.model
        if model is None:
            model = perceptron(x.shape[1], n_out, self.hidden)
        elif isinstance(model, Layer):
            model = copy.deepcopy(model)
        elif callable(model):
            model = model(x.shape[1], n_out)
        if not isinstance(model, Layer):
            raise ConfigError(
                f"{type(self).__name__}: expected model as a layer, a function"
                f" (n_in, n_out) -> layer, or None, got {model!r:.60}"
            )
        model.init(Rng(seed).split("weights"), x.dtype, keep=True)
        return model.to(self.backend, self.device)

    def _callbacks(self) -> list[Callback]:
        stopping = EarlyStopping(
            "val_loss" if self.early_stopping else "loss",
            patience=self.n_iter_no_change,
            min_delta=self.tol,
        )
        shown = [Progress()] if self.verbose else []
        return [stopping, *shown, *self.callbacks]

    def _outputs(self, x: Any, n_out: int) -> np.ndarray:
        """Return the model's outputs (n, n_out)."""
        check_is_fitted(self)
        x = validate_data(self, x, dtype=FLOATS, reset=False)
        outputs = predict(self.model_, x)
        if outputs.shape != (len(x), n_out):
            raise ShapeError(
                f"{type(self).__name__}: expected a model whose outputs are"
                f" ({len(x)}, {n_out}), got {outputs.shape}"
            )
        return outputs


class SillarClassifier(ClassifierMixin, _Estimator):
    """A classifier around a model that gives a logit for each class.

    `model` is a layer, which is copied and trained on from the weights that it has; a
    function (features, classes) -> layer; or None, for Dense layers of the sizes in
    `hidden` with ReLU between them. `class_weight` is a dictionary by class, or
    "balanced", and goes with `loss=None`, which is CrossEntropy.

    Training ends after `epochs`, or when the loss has not fallen by `tol` for
    `n_iter_no_change` of them: that of the rows held back, with `early_stopping`, or
    that of training. Rows of float64 are computed with in float64, others in float32.
    A fitted one has `model_`, `classes_`, `history_`, `n_iter_` and `loss_`.
    """

    def __init__(
        self,
        model: Model = None,
        *,
        hidden: Sequence[int] = (100,),
        loss: Loss | None = None,
        optimizer: Optimizer | None = None,
        lr: float = 1e-3,
        epochs: int = 200,
        batch_size: int | None = None,
        class_weight: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        random_state: Any = None,
        warm_start: bool = False,
        backend: str = "numpy",
        device: str | None = None,
        callbacks: Iterable[Callback] = (),
        verbose: bool = False,
    ) -> None:
        _keep(self, locals())

    @classmethod
    def from_model(cls, model: Layer, classes: Sequence[Any], **settings: Any) -> Self:
        """Return a fitted classifier around a trained model, as `sillar.load` gives."""
        made = cls(model, **settings)
        made.model_, made.classes_ = model, np.asarray(classes)
        return made

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803 - scikit-learn's name
        """Train on rows X (n, features) and classes y (n,); return the estimator."""
        X, y = validate_data(self, X, y, dtype=FLOATS)  # noqa: N806
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self._train(X, labels, self._loss(y), len(self.classes_))
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the likeliest class of each row, (n,)."""
        outputs = self._outputs(X, self._n_classes())
        return self.classes_[outputs.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the probabilities of the classes, (n, classes)."""
        outputs = self._outputs(X, self._n_classes())
        return softmax(Tensor(outputs)).numpy()

    def _n_classes(self) -> int:
        check_is_fitted(self)
        return len(self.classes_)

    def _loss(self, y: np.ndarray) -> Loss:
        if self.loss is not None:
            if self.class_weight is not None:
                raise ConfigError(
                    "SillarClassifier: class_weight is for loss=None; give a loss of"
                    " your own its weights, as CrossEntropy(weights=[1.0, 5.0])"
                )
            return self.loss
        if self.class_weight is None:
            return CrossEntropy()
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        return CrossEntropy(weights=weights.tolist())


class SillarRegressor(RegressorMixin, _Estimator):
    """A regressor around a model that gives a number for each target.

    Settings are those of `SillarClassifier`; `loss=None` is MSE. Targets are taken as
    they are: put large ones through scikit-learn's TransformedTargetRegressor.
    """

    def __init__(
        self,
        model: Model = None,
        *,
        hidden: Sequence[int] = (100,),
        loss: Loss | None = None,
        optimizer: Optimizer | None = None,
        lr: float = 1e-3,
        epochs: int = 200,
        batch_size: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        random_state: Any = None,
        warm_start: bool = False,
        backend: str = "numpy",
        device: str | None = None,
        callbacks: Iterable[Callback] = (),
        verbose: bool = False,
    ) -> None:
        _keep(self, locals())

    @classmethod
    def from_model(cls, model: Layer, **settings: Any) -> Self:
        """Return a fitted regressor around a trained model of one target."""
        made = cls(model, **settings)
        made.model_, made._shape = model, ()
        return made

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Train on rows X (n, features) and targets y, (n,) or (n, k)."""
        X, y = validate_data(  # noqa: N806
            self, X, y, dtype=FLOATS, multi_output=True, y_numeric=True
        )
        self._shape = y.shape[1:]
        targets = y.reshape(len(y), -1).astype(X.dtype)
        self._train(X, targets, self.loss or MSE(), targets.shape[1])
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the value of each row, of the shape that y had."""
        check_is_fitted(self)
        outputs = self._outputs(X, int(np.prod(self._shape)))
        return outputs.reshape(-1, *self._shape)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def perceptron(n_in: int, n_out: int, hidden: Sequence[int]) -> Layer:
    """Return Dense layers of these sizes with ReLU between, drawn as MLPClassifier's.

    Glorot and Bengio 2010, equation 16.
    """
    sizes = [n_in, *hidden]
    layers: list[Layer] = []
    for a, b in pairwise(sizes):
        layers += [Dense(a, b, initializer=xavier_uniform), ReLU()]
    last = Dense(sizes[-1], n_out, initializer=xavier_uniform)
    return Sequential(*layers, last)


def _keep(estimator: BaseEstimator, arguments: dict[str, Any]) -> None:
    """Keep each argument under its own name, as scikit-learn wants it."""
    del arguments["self"]
    vars(estimator).update(arguments)
