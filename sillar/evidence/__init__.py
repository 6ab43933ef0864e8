"""Evidence: how good a model is, how sure that is, and what it must beat."""

from sillar.evidence.baselines import Baseline, baselines, headline
from sillar.evidence.bootstrap import Interval, bootstrap
from sillar.evidence.calibration import Calibration, brier_score, calibration_curve
from sillar.evidence.cross_validation import CrossValidation, cross_validate
from sillar.evidence.folds import k_folds
from sillar.evidence.splits import check_splits
from sillar.evidence.threshold import Threshold, choose_threshold

__all__ = [
    "Baseline",
    "Calibration",
    "CrossValidation",
    "Interval",
    "Threshold",
    "baselines",
    "bootstrap",
    "brier_score",
    "calibration_curve",
    "check_splits",
    "choose_threshold",
    "cross_validate",
    "headline",
    "k_folds",
]
