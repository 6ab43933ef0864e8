"""Data: datasets, batches of them, and readers of the files they come in.

A reader believes nothing a file says about itself: sizes are checked before memory is
taken, nothing is unpickled, and what is broken is named in one `DataError`.
"""

from sillar.data.columns import read_columns
from sillar.data.dataset import Dataset
from sillar.data.digits import digits, mnist
from sillar.data.encoder import Encoder
from sillar.data.idx import read_idx
from sillar.data.images import (
    Augment,
    Augmentation,
    Brightness,
    Crop,
    Flip,
    Noise,
    Rotation,
    Shift,
)
from sillar.data.lines import open_csv
from sillar.data.loader import DataLoader
from sillar.data.log_tokenizer import LogTokenizer
from sillar.data.log_windows import LogWindows
from sillar.data.mapped import open_npy
from sillar.data.npy import read_npy
from sillar.data.npz import read_npz
from sillar.data.parquet import open_parquet
from sillar.data.sets import fetch
from sillar.data.stored import StoredArray
from sillar.data.table import read_csv
from sillar.data.table_transform import TableTransform
from sillar.data.text import read_text, text_lines, text_windows
from sillar.data.tokenizers import CharTokenizer, WordTokenizer

__all__ = [
    "Augment",
    "Augmentation",
    "Brightness",
    "CharTokenizer",
    "Crop",
    "DataLoader",
    "Dataset",
    "Encoder",
    "Flip",
    "LogTokenizer",
    "LogWindows",
    "Noise",
    "Rotation",
    "Shift",
    "StoredArray",
    "TableTransform",
    "WordTokenizer",
    "digits",
    "fetch",
    "mnist",
    "open_csv",
    "open_npy",
    "open_parquet",
    "read_columns",
    "read_csv",
    "read_idx",
    "read_npy",
    "read_npz",
    "read_text",
    "text_lines",
    "text_windows",
]
