"""NNCF's PyTorch backend: a module in, a trainable fake-quantized one out, and what its quantizers hold.

NNCF keeps its quantizers in a storage of their own inside the module and calls them from a mode that watches PyTorch's
functions, so that the user's classes and their training loop stay as they are.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import nncf
from nncf.torch.quantization.extensions import QuantizedFunctionsCPU
from nncf.torch.quantization.reference import ReferenceQuantizedFunctions
from torch import nn

from mlflow_aifsm.backends.fake_quantized import Example, quantizers
from mlflow_aifsm.backends.nncf import KINDS, differing_arguments, muted, native, resolved_arguments
from mlflow_aifsm.backends.quantized import failed
from mlflow_aifsm.errors import AifsmError, OptimizationError
from mlflow_aifsm.facts import Json

BUILT_IN = "PyTorch's own operations"
COMPILED = "NNCF's compiled operations"
TIMEOUT, PATIENCE = "NNCF_EXTENSION_LOAD_TIMEOUT", "900"
"""NNCF's own variable, and the seconds that it has for compiling where nobody set it."""


@dataclass(frozen=True, slots=True)
class Trainable:
    """A fake-quantized module with the call that made it.

    Attributes:
        model: The module; a copy, the given one is untouched.
        function: The function that was called.
        arguments: All its arguments with resolved defaults.
        shown: Those that are not its defaults.
    """

    model: nn.Module
    function: str
    arguments: dict[str, Json]
    shown: dict[str, Json]


class _Sequence(nn.Module):
    """A Sequential inside a module: NNCF's storage would become one of its layers."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, input: Any) -> Any:
        """What the layers give."""
        return self.layers(input)


OPERATORS = {"linear": "Gemm", "matmul": "MatMul", "bmm": "MatMul", "add": "Add", "__add__": "Add", "relu": "Relu"}
OPERATORS |= {f"conv{axes}d": "Conv" for axes in (1, 2, 3)} | {f"conv_transpose{axes}d": "ConvTranspose" for axes in (1, 2, 3)}
"""ONNX's name of an operator by PyTorch's, where a layer may be named by it."""


class _NoCompiler(logging.Filter):
    """Holds back that NNCF found no C++ compiler: it works without, and the log says so."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "Could not compile CPU quantization extensions" not in str(record.msg)


_NO_COMPILER = _NoCompiler()


def quantized(model: nn.Module, samples: Iterable[Any], keywords: Mapping[str, Any]) -> Trainable:
    """Calls ``nncf.quantize`` on a copy of the module, which keeps device and mode of each of its parts.

    Args:
        model: The float module.
        samples: Calibration samples as the module takes them: a tensor, a tuple of tensors, or a dict by argument.
        keywords: Keywords of ``nncf.quantize``; None stands for NNCF's default.

    Raises:
        InputError: If a keyword's value is not one that NNCF knows.
        OptimizationError: If NNCF refuses, or finds nothing to quantize.
    """
    given = {name: native(KINDS[name], value, name) if name in KINDS else value for name, value in keywords.items()}
    source = wrapped(model)
    with _reported("nncf.quantize"), quiet():
        operations()
        made = nncf.quantize(source.eval(), nncf.Dataset(samples), **{k: v for k, v in given.items() if v is not None})
    if not isinstance(made, nn.Module) or not quantizers(made):
        raise OptimizationError("nncf.quantize quantized nothing", expected="at least one layer that NNCF knows")
    like(made, model)
    arguments = resolved_arguments(given)
    return Trainable(made, "nncf.quantize", arguments, differing_arguments(arguments))


def restored(model: nn.Module, config: Json) -> nn.Module:
    """A copy of the float module with the quantizers that ``configuration`` described, not yet their values.

    Raises:
        OptimizationError: If the module has no such places.
    """
    with _reported("nncf.torch.load_from_config"), quiet():
        operations()
        made = wrapped(model)
        nncf.torch.load_from_config(made, config)  # changes the module that it is given
    like(made, model)
    return made


def nodes(model: nn.Module, example: Example) -> dict[str, tuple[str, ...]]:
    """What NNCF calls each operation of the module, with the names that people know it by.

    Returns:
        By NNCF's name: the module's path, where there is one, PyTorch's name of the operation and ONNX's.

    Raises:
        OptimizationError: If NNCF cannot trace the module.
    """
    source, (args, kwargs) = wrapped(model).eval(), example
    with _reported("nncf.build_graph"), quiet():
        graph = nncf.build_graph(source, example_input=dict(kwargs) if kwargs else tuple(args))
    inside = "layers." if isinstance(source, _Sequence) else ""
    found = {node.node_name: node.node_type for node in graph.get_all_nodes() if not node.node_type.startswith("nncf_model_")}
    return {
        name: tuple(filter(None, (_module_path(name).removeprefix(inside), kind, OPERATORS.get(kind, ""))))
        for name, kind in found.items()
    }


def _module_path(name: str) -> str:
    """Path of the module of an operation that NNCF calls ``features/0/conv2d/0``; empty for one of the outermost."""
    return ".".join(name.split("/")[:-2])


def configuration(model: nn.Module) -> Json:
    """Where quantizers stand and of which kind they are, as JSON."""
    return nncf.torch.get_config(model)


def wrapped(model: nn.Module) -> nn.Module:
    """A copy of the module, inside another one where it is a plain ``nn.Sequential``."""
    made = copy.deepcopy(model)
    return _Sequence(made) if isinstance(made, nn.Sequential) and type(made).forward is nn.Sequential.forward else made


def like(made: nn.Module, model: nn.Module) -> None:
    """Gives each part of ``made`` the mode, training or evaluation, that it has in ``model``."""
    inner = made.layers if isinstance(made, _Sequence) else made
    made.training = model.training
    for name, part in model.named_modules():
        inner.get_submodule(name).training = part.training


def operations() -> str:
    """What quantizers compute with: NNCF compiles its operations once where it finds a C++ compiler."""
    with quiet(), _patient():
        QuantizedFunctionsCPU.get("Quantize_forward")
    return BUILT_IN if QuantizedFunctionsCPU._loaded_namespace is ReferenceQuantizedFunctions else COMPILED  # noqa: SLF001


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps NNCF's bars and advice to itself in this thread."""
    logging.getLogger("nncf").addFilter(_NO_COMPILER)  # adds it once
    with muted():
        yield


@contextmanager
def _patient() -> Iterator[None]:
    """NNCF gives up after a minute, which a busy host may need, and leaves a lock that later runs wait for."""
    unset = TIMEOUT not in os.environ
    os.environ.setdefault(TIMEOUT, PATIENCE)
    try:
        yield
    finally:
        if unset:
            os.environ.pop(TIMEOUT, None)


@contextmanager
def _reported(function: str) -> Iterator[None]:
    try:
        yield
    except AifsmError:
        raise
    except Exception as error:
        raise failed(function, error) from error
