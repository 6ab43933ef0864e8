"""The networks in ONNX Runtime, as PyTorch exports them: inference only."""

import os
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks import in_torch


def server(name, weights, x):
    """Return a function from inputs like x to outputs, arrays of NumPy."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        in_torch.export(name, weights, x, path)
        session = onnxruntime.InferenceSession(path, options)
    images = name in in_torch.IMAGES

    def serve(x):
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if images else x
        return session.run(None, {"x": x})[0]

    return serve
