"""Searches by Optuna: over estimators, with pruning, repeated and resumed."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score

import sillar as sl
from sillar import nn
from sillar.interop.optuna import Pruning
from sillar.interop.sklearn import SillarClassifier

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.WARNING)
X, Y = load_digits(return_X_y=True)
X, Y = X[:400] / 16, Y[:400]


def over_estimators(trial):
    model = SillarClassifier(
        hidden=(trial.suggest_int("width", 2, 64, log=True),),
        lr=trial.suggest_float("lr", 1e-3, 1e-1, log=True),
        epochs=10,
        batch_size=32,
        random_state=0,
    )
    return cross_val_score(model, X, Y, cv=2).mean()


def searched(trials=4, **settings):
    sampler = optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler, **settings)
    study.optimize(over_estimators, n_trials=trials)
    return study


def test_a_search_is_repeated_by_its_seed():
    first, again = searched(), searched()
    assert [t.params for t in first.trials] == [t.params for t in again.trials]
    assert [t.value for t in first.trials] == [t.value for t in again.trials]
    assert first.best_value > 0.8


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Optuna's connections
def test_a_search_is_kept_and_gone_on_with(tmp_path):
    kept = {
        "storage": f"sqlite:///{tmp_path}/search.db",
        "study_name": "digits",
        "load_if_exists": True,
    }
    assert len(searched(2, **kept).trials) == 2
    assert len(searched(2, **kept).trials) == 4


def trained(trial, metric="val_loss"):
    model = nn.Sequential(nn.Dense(64, 32), nn.ReLU(), nn.Dense(32, 10))
    part = sl.data.Dataset(X.astype("float32"), Y)
    run = sl.fit(
        model,
        sl.CrossEntropy(),
        sl.SGD([0.1, 0.1, 1e-6][trial.number]),
        part,
        validation=0.25,
        epochs=6,
        callbacks=[Pruning(trial, metric)],
    )
    return run.metrics["val_loss"]


def test_a_trial_that_goes_badly_is_pruned():
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=1)
    study = optuna.create_study(pruner=pruner)
    study.optimize(trained, n_trials=3)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "COMPLETE", "PRUNED"]
    reported = study.trials[2].intermediate_values
    assert len(reported) < 6
    assert np.isfinite(list(reported.values())).all()


def test_a_metric_that_is_not_there_is_told():
    study = optuna.create_study()
    with pytest.raises(optuna.exceptions.OptunaError, match="no metric 'val_f1'"):
        study.optimize(lambda trial: trained(trial, "val_f1"), n_trials=1)
