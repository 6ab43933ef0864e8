"""The exception tree.

SillarError
├── ShapeError         sizes that do not fit                      (ValueError)
├── DtypeError         a data type that cannot be used here       (TypeError)
├── ConfigError        an argument or setting out of its range    (ValueError)
├── GradientError      a gradient that cannot be taken            (RuntimeError)
├── CompileError       a step that cannot be compiled                (RuntimeError)
├── NonFiniteError     a NaN or infinity, where one was looked for (FloatingPointError)
├── DataError          a data file or table that is broken        (ValueError)
├── FormatError        a model file that is damaged or hostile    (ValueError)
├── BackendError       an array no installed back end knows       (TypeError)
└── DependencyError    an optional library that is not installed  (ImportError)

Every message names the operation, what was expected, what came and what to do.
"""

from __future__ import annotations


class SillarError(Exception):
    """Base of every error that Sillar raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.trail: list[str] = []

    def __str__(self) -> str:
        """Return the message, then the layers it passed through, outermost first."""
        message = str(self.args[0])
        return f"{message} [in {' > '.join(self.trail)}]" if self.trail else message


class ShapeError(SillarError, ValueError):
    """Sizes that do not fit together."""


class DtypeError(SillarError, TypeError):
    """A data type that cannot be used here."""


class ConfigError(SillarError, ValueError):
    """An argument or a setting outside its range."""


class GradientError(SillarError, RuntimeError):
    """A gradient that cannot be taken."""


class CompileError(SillarError, RuntimeError):
    """A step that cannot be compiled."""


class NonFiniteError(SillarError, FloatingPointError):
    """A NaN or an infinity, found by `sillar.watch.find_nonfinite`."""


class DataError(SillarError, ValueError):
    """A data file or a table that is broken."""


class FormatError(SillarError, ValueError):
    """A model file that is damaged or hostile."""


class BackendError(SillarError, TypeError):
    """An array that no installed back end knows."""


class DependencyError(SillarError, ImportError):
    """An optional library that is not installed."""


def missing(library: str, extra: str, what: str) -> DependencyError:
    """Return the error that says which extra brings the library that `what` needs."""
    return DependencyError(
        f"{what} needs the package {library}: pip install 'sillar[{extra}]'"
    )
