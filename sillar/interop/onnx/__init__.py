"""Models as ONNX files, for runtimes of all kinds, and back."""

from sillar.errors import missing

try:
    import onnx  # noqa: F401
except ImportError:
    raise missing("ONNX", "onnx", "a model as an ONNX file") from None

from sillar.interop.onnx.export import export
from sillar.interop.onnx.reading import load

__all__ = ["export", "load"]
