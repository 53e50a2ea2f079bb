"""What is asked of a freeze, as frozen values: the asked side of a record, and what one compares.

Each config holds the keywords of the tool it stands for, verbatim, so that nobody learns a second vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlflow_aifsm.errors import InputError

EXPORTERS = ("dynamo", "torchscript")
BATCH = "batch"
"""Word for ``dynamic_shapes``: the first axis of every input is dynamic."""


@dataclass(frozen=True, slots=True)
class Onnx:
    """Freezing to ONNX with an exporter of PyTorch.

    Args:
        exporter: ``"dynamo"``, or ``"torchscript"`` for the older one, which traces: of a branch it keeps the part that the
            example took. Use it where a model or a target needs it.
        opset: Operator set version of the default domain; the exporter's own choice if None. The exporter may write another
            one: the log holds both.
        dynamic_shapes: ``"batch"`` for a dynamic first axis of every input, or what ``torch.export.export`` takes under that
            name; for the TorchScript exporter axes by input name, as its ``dynamic_axes``. None keeps an exported program's
            dynamic axes, and fixes those of a module to the example's.
        strip_source_paths: Whether to take out the stack traces, with absolute paths of the source code, that the dynamo
            exporter writes into nodes (ED-324 6.4.3.6h); the bytes then do not depend on where the project lies.

    Raises:
        InputError: If ``opset`` is no positive integer, or there is no such exporter.
    """

    opset: int | None = None
    dynamic_shapes: Any = None
    strip_source_paths: bool = True
    exporter: str = "dynamo"

    def __post_init__(self) -> None:
        if self.opset is not None and (isinstance(self.opset, bool) or not isinstance(self.opset, int) or self.opset < 1):
            raise InputError("opset", got=repr(self.opset), expected="a positive integer, or None")
        if self.exporter not in EXPORTERS:
            raise InputError("exporter", got=repr(self.exporter), expected=" or ".join(f"'{name}'" for name in EXPORTERS))
        _check_shapes(self.dynamic_shapes)


@dataclass(frozen=True, slots=True)
class Pt2:
    """Freezing to a pt2 archive of ``torch.export``, which runs in PyTorch without the model's Python code.

    The archive holds weights as raw bytes. Its example inputs, which PyTorch pickles, are zeros of the example's shapes,
    tensors only, so it loads where pickles are forbidden (``MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false``). Operators stay as
    ``torch.export`` traces them, without ``run_decompositions``: a batch normalization keeps the flag that shows it is in
    evaluation mode, and two exports of one model have the same bytes.

    Args:
        dynamic_shapes: ``"batch"`` for a dynamic first axis of every input, or what ``torch.export.export`` takes under that
            name. None keeps an exported program's dynamic axes, and fixes those of a module to the example's.
        strip_source_paths: Whether to take out the stack traces, with absolute paths of the source code, that PyTorch writes
            into nodes (ED-324 6.4.3.6h).

    Raises:
        InputError: If ``dynamic_shapes`` is another word.
    """

    dynamic_shapes: Any = None
    strip_source_paths: bool = True

    def __post_init__(self) -> None:
        _check_shapes(self.dynamic_shapes)


def _check_shapes(asked: Any) -> None:
    if isinstance(asked, str) and asked != BATCH:
        raise InputError("dynamic_shapes", got=repr(asked), expected=f"'{BATCH}', or what torch.export takes")
