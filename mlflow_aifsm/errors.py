"""One root for everything this package raises on purpose.

A message is one line that says what happened, what was got, what was expected and what to do about it. The exception that
caused it stays attached as ``__cause__``, so nothing is lost.
"""

from __future__ import annotations


class AifsmError(Exception):
    """Root of all errors of this package.

    Args:
        what: What went wrong, with the name of the thing it went wrong with.
        got: What was found.
        expected: What would have been right.
        remedy: The one step that puts it right.
    """

    exit_code = 1

    def __init__(self, what: str, *, got: object = "", expected: object = "", remedy: str = "") -> None:
        self.what, self.got, self.expected, self.remedy = what, got, expected, remedy
        super().__init__(self._line())

    def _line(self) -> str:
        parts = [self.what.rstrip(".")]
        if self.got != "":
            parts.append(f"got {self.got}")
        if self.expected != "":
            parts.append(f"expected {self.expected}")
        if self.remedy:
            parts.append(self.remedy.rstrip("."))
        return " ".join("; ".join(parts).split()) + "."


class InputError(AifsmError):
    """A caller gave something that cannot be worked with: checked before any work starts."""

    exit_code = 2


class TemplateError(AifsmError):
    """A template file breaks a rule: a key twice, a key or a fact that nobody knows."""


class ConfigError(InputError):
    """``aifsm.toml`` or an ``MLFLOW_AIFSM_*`` variable holds something that is not a setting."""


class RecordError(AifsmError):
    """A record cannot be read: newer schema, damaged JSON, wrong types."""


class NotFoundError(AifsmError):
    """A run, a model, a log or an artifact that was named does not exist."""


class ConversionError(AifsmError):
    """The framework could not make the frozen model."""


class OptimizationError(AifsmError):
    """The framework could not make the optimized model."""


class TrackingError(AifsmError):
    """MLflow could not be reached, or refused a write."""


class IntegrityError(AifsmError):
    """Bytes are not those that were recorded."""

    exit_code = 5
