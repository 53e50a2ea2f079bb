"""What quantization-aware training can begin with, checked before any work: the model, the data, and what is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlflow_aifsm import lineage
from mlflow_aifsm.capture.evaluation_mode import is_exported
from mlflow_aifsm.errors import InputError, NotFoundError
from mlflow_aifsm.lineage import VerifiedModel
from mlflow_aifsm.operations import sources
from mlflow_aifsm.operations.quantization import ACTIVATIONS, NNCF, WEIGHTS, Static
from mlflow_aifsm.operations.static_nncf import NATIVE, PRESETS
from mlflow_aifsm.result import Result

TRAINABLE = "Static() or NNCF()"
RANGES: Mapping[str, Mapping[str, Any]] = {
    **NATIVE,
    "max_abs": {
        "min": {"statistics_type": "min", "aggregator_type": "min"},
        "max": {"statistics_type": "abs_max", "aggregator_type": "max"},
    },
}
"""Estimators of the range that training begins with, as NNCF's PyTorch backend has them."""
NEEDS_MODULE = "pass the torch.nn.Module that the file was frozen from; qat.freeze() makes the file after training"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of the fake-quantized model, in NNCF's words.

    Attributes:
        config: The caller's config.
        keywords: Keywords of ``nncf.quantize``.
        activations: Type of the codes of activations.
        subset_size: Calibration samples to read.
    """

    config: Static | NNCF
    keywords: Mapping[str, Any]
    activations: str
    subset_size: int


def module_of(model: Any) -> tuple[nn.Module, VerifiedModel | None]:
    """The module behind ``model``, and the MLflow model that it was loaded from, if it was.

    Raises:
        InputError: If it is no live module: a frozen file, the result of a freeze, an exported program.
        NotFoundError: If a URI names no model.
    """
    origin = lineage.resolve(model) if isinstance(model, str) and model.startswith(("models:/", "runs:/")) else None
    if origin is not None and "pytorch" not in origin.flavors:
        raise _no_module(f"{model}, of flavors {', '.join(origin.flavors)}")
    found = model if origin is None else sources.loaded(origin)
    if isinstance(found, Result) or not isinstance(found, nn.Module) or is_exported(found):
        raise _no_module(str(found.path) if isinstance(found, Result) else _named(model, found))
    if isinstance(found, torch.jit.ScriptModule):
        raise _no_module("a TorchScript module")
    return found, origin


def asked_of(config: Any, module: nn.Module) -> Asked:
    """What ``config`` asks, in NNCF's words.

    Raises:
        InputError: If NNCF's PyTorch backend, or an integer file, cannot do it.
    """
    wanted = Static() if config is None else config
    if isinstance(wanted, NNCF):
        keywords = {one.name: getattr(wanted, one.name) for one in fields(wanted)}
        return Asked(wanted, keywords, "uint8", wanted.subset_size)
    if not isinstance(wanted, Static):
        name = type(wanted).__name__
        raise InputError("this config has no ranges that training could learn", got=name, expected=TRAINABLE)
    _check_types(wanted)
    _check_granularity(wanted, module)
    _check_settings(wanted)
    return Asked(wanted, _keywords(wanted), wanted.activations, wanted.subset_size)


def check_data(given: Any) -> None:
    """Refuses to begin without the data that the ranges are initialised with.

    Raises:
        InputError: If there are none.
    """
    if given is None:
        expected = "calibration samples, from which the ranges are set before training"
        raise InputError("no calibration data", got="None", expected=expected, remedy="pass data=")


def checked_numbers(given: Mapping[Any, Any]) -> dict[str, float]:
    """Numbers of an epoch by name.

    Raises:
        InputError: If a name is no string, or a value is no single number.
    """
    found: dict[str, float] = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise InputError("name of a metric", got=repr(name), expected="a string")
        try:
            found[name] = float("" if isinstance(value, str) else value)
        except (TypeError, ValueError, RuntimeError) as error:
            got = " ".join(repr(value).split())[:80]
            raise InputError(f"metric '{name}' of an epoch", got=got, expected="one number") from error
    return found


def resumable(folder: Path | None, *, resume: bool) -> Path | None:
    """The folder of the training to go on with; None if one is begun.

    Raises:
        InputError: If the training is to be resumed and no folder is named, or a file lies where the folder shall be.
        NotFoundError: If the training is to be resumed and nothing lies there.
    """
    if resume and folder is None:
        raise InputError("no checkpoint to go on from", got="resume=True", expected="its folder", remedy="pass checkpoint=")
    if folder is not None and folder.exists() and not folder.is_dir():
        raise InputError("a checkpoint is a folder", got=f"the file {folder}", remedy="name another folder")
    if resume and folder is not None and not folder.is_dir():
        raise NotFoundError(f"there is no checkpoint in {folder}", remedy="begin without resume=True")
    return folder if resume else None


def _no_module(got: str) -> InputError:
    return InputError(
        "quantization-aware training needs the module", got=got, expected="a torch.nn.Module", remedy=NEEDS_MODULE
    )


def _named(model: Any, found: Any) -> str:
    kind = type(found).__name__
    return f"{str(model)[:80]}, a {kind}" if isinstance(model, str) and found is not model else f"{kind} {str(model)[:80]!r}"


def _check_types(wanted: Static) -> None:
    if wanted.weights != "int8":
        raise InputError("weights of a trained integer file", got=repr(wanted.weights), expected="'int8'")
    if wanted.activations not in ("uint8", "int8"):
        expected = "'uint8' or 'int8', which runtimes have integer kernels for"
        raise InputError("activations of a trained integer file", got=repr(wanted.activations), expected=expected)
    if wanted.activations == "int8" and wanted.schemes[ACTIVATIONS] == "symmetric":
        expected = "'uint8', or an asymmetric scheme: NNCF takes ranges from 0 for tensors without negative values"
        raise InputError("symmetric activations of a trained integer file", got="'int8'", expected=expected)
    if wanted.schemes[WEIGHTS] != "symmetric":
        expected = "'symmetric': NNCF's PyTorch backend trains no other, and integer kernels by channel have no other"
        raise InputError("scheme of the weights", got=repr(wanted.schemes[WEIGHTS]), expected=expected)


def _check_granularity(wanted: Static, module: nn.Module) -> None:
    granularity = wanted.granularities
    if granularity[ACTIVATIONS] != "layer":
        expected = "'layer': no runtime computes activations with several scales in integers"
        raise InputError("granularity of activations", got=repr(granularity[ACTIVATIONS]), expected=expected)
    if granularity[WEIGHTS] == "group":
        expected = "'channel' or 'layer', which NNCF's PyTorch backend trains"
        raise InputError("granularity of weights", got="'group'", expected=expected)
    folded = next((name for name, part in module.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)), "")  # noqa: SLF001
    if granularity[WEIGHTS] == "layer" and folded:
        expected = f"'channel': batch normalization ('{folded}') is folded into scales by channel"
        raise InputError("granularity of weights", got="'layer'", expected=expected)


def _check_settings(wanted: Static) -> None:
    if wanted.ranges not in RANGES:
        expected = f"one of {', '.join(RANGES)}, which NNCF's PyTorch backend has; training moves the ranges from there"
        raise InputError("ranges before training", got=repr(wanted.ranges), expected=expected)
    refused = {"overrides": bool(wanted.overrides), "accuracy_target": wanted.accuracy_target is not None}
    refused |= {"bias_correction='auto'": wanted.bias_correction == "auto", "backend": wanted.backend == "onnxruntime"}
    if found := [name for name, given in refused.items() if given]:
        raise InputError(f"{found[0]} is no setting of training", remedy="leave it out; quantize() has it")


def _keywords(wanted: Static) -> dict[str, Any]:
    advanced: dict[str, Any] = {
        "disable_bias_correction": wanted.bias_correction is False,
        "weights_quantization_params": {"per_channel": wanted.granularities[WEIGHTS] == "channel"},
        "activations_quantization_params": {"per_channel": False},
        "activations_range_estimator_params": dict(RANGES[wanted.ranges]),
    }
    return {
        "preset": PRESETS[wanted.schemes[ACTIVATIONS]],
        "subset_size": wanted.subset_size,
        "advanced_parameters": {name: value for name, value in advanced.items() if value != {}},
    }


def ignored(patterns: Sequence[str], known: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """NNCF's scope of layers that stay in float.

    Args:
        patterns: ``keep_float`` of the config.
        known: Names of NNCF's nodes by pattern.
    """
    names = [name for pattern in patterns for name in known[pattern]]
    return {"names": sorted(set(names))} if names else {}
