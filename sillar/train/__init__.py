"""Training, evaluation, callbacks, checkpoints and model files."""

from sillar.train import metrics
from sillar.train.callbacks import Callback, EarlyStopping, MetricsLog, Progress, every
from sillar.train.checkpoint import Checkpoint
from sillar.train.evaluate import evaluate, predict
from sillar.train.fit import fit
from sillar.train.model_files import load, load_encoder, save
from sillar.train.run import Run
from sillar.train.sample import sample
from sillar.train.track import CSVLog, TensorBoard

__all__ = [
    "CSVLog",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "MetricsLog",
    "Progress",
    "Run",
    "TensorBoard",
    "evaluate",
    "every",
    "fit",
    "load",
    "load_encoder",
    "metrics",
    "predict",
    "sample",
    "save",
]
