"""NNCF's post-training quantization: an ONNX graph and samples in, a QDQ graph out."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import nncf
import onnx
from nncf.common.logging import track_progress
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters

from mlflow_aifsm.backends.quantized import Quantized, failed, saved
from mlflow_aifsm.backends.silence import Filter, silent, unwatched
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Json
from mlflow_aifsm.hooks.arguments import flattened

KINDS: Mapping[str, type] = {
    "preset": nncf.QuantizationPreset,
    "target_device": nncf.TargetDevice,
    "model_type": nncf.ModelType,
    "ignored_scope": nncf.IgnoredScope,
    "advanced_parameters": AdvancedQuantizationParameters,
}
"""Keywords of ``nncf.quantize`` that are no plain values, with the class that holds them."""

_DETAILS = Filter(logging.WARNING)
"""NNCF's own logger tells each step at level INFO."""


class _Bar(track_progress.Progress):  # type: ignore[misc]
    """NNCF's bar, which NNCF itself has no switch for: not drawn where nobody looks."""

    def __init__(self, *columns: Any, disable: bool = False, **settings: Any) -> None:
        super().__init__(*columns, disable=disable or unwatched(), **settings)


def quantize(path: Path, samples: Iterable[dict[str, Any]], keywords: Mapping[str, Any]) -> Quantized:
    """Calls ``nncf.quantize``.

    Args:
        path: The float file.
        samples: Calibration samples by input name, each ``[1, …]``; iterated several times.
        keywords: Keywords of ``nncf.quantize``; None stands for NNCF's default.

    Raises:
        InputError: If a keyword's value is not one that NNCF knows.
        OptimizationError: If NNCF refuses or fails.
    """
    given = {name: native(KINDS[name], value, name) if name in KINDS else value for name, value in keywords.items()}
    try:
        with muted():
            model = nncf.quantize(onnx.load(path), nncf.Dataset(samples), **{k: v for k, v in given.items() if v is not None})
    except InputError:  # of the samples
        raise
    except Exception as error:
        raise failed("nncf.quantize", error) from error
    arguments = resolved_arguments(given)
    return Quantized(saved(model), "nncf.quantize", arguments, differing_arguments(arguments))


def controlled(
    path: Path,
    samples: Iterable[dict[str, Any]],
    validation: Callable[[Path], float],
    max_drop: float,
    keywords: Mapping[str, Any],
) -> Quantized:
    """Calls ``nncf.quantize_with_accuracy_control``: NNCF takes quantizers out until the drop is met.

    Args:
        path: The float file.
        samples: Calibration samples; NNCF's ranking of layers reads them too.
        validation: Metric of a file, more is better.
        max_drop: Largest absolute drop of the metric.
        keywords: Keywords that it shares with ``nncf.quantize``.

    Raises:
        InputError: If a keyword's value is not one that NNCF knows.
        OptimizationError: If NNCF refuses or fails.
    """
    given = {name: native(KINDS[name], value, name) if name in KINDS else value for name, value in keywords.items()}
    data = nncf.Dataset(samples)

    def judged(model: onnx.ModelProto, _: Any) -> tuple[float, None]:
        return validation(saved(model)), None

    try:
        with muted():
            wanted = {name: value for name, value in given.items() if value is not None}
            model = nncf.quantize_with_accuracy_control(
                onnx.load(path), data, data, validation_fn=judged, max_drop=max_drop, **_renamed(wanted)
            )
    except InputError:  # of the samples
        raise
    except Exception as error:
        raise failed("nncf.quantize_with_accuracy_control", error) from error
    arguments = {**resolved_arguments(given), "max_drop": max_drop}
    shown = {**differing_arguments(resolved_arguments(given)), "max_drop": max_drop}
    return Quantized(saved(model), "nncf.quantize_with_accuracy_control", arguments, shown)


def _renamed(keywords: dict[str, Any]) -> dict[str, Any]:
    """Keywords of ``nncf.quantize`` under the names of the call with accuracy control."""
    return {
        {"advanced_parameters": "advanced_quantization_parameters"}.get(name, name): value for name, value in keywords.items()
    }


def estimator(arguments: Mapping[str, Json]) -> tuple[str, str]:
    """How NNCF set the range of activations, in words and as one short word.

    Args:
        arguments: Resolved arguments, as ``quantize`` returns them.
    """
    asked = (arguments.get("advanced_parameters") or {}).get("activations_range_estimator_params") or {}
    ends = [_end(asked.get(end) or {}) for end in ("min", "max")]
    if ends == ["", ""]:
        return "Range from the mean over samples of each sample's minimum and maximum (NNCF's default)", "mean_min_max"
    low, high = (end or "NNCF's default" for end in ends)
    return f"Range from {low} (lower end) to {high} (upper end)", f"{low} / {high}"


def _end(how: Mapping[str, Json]) -> str:
    kind, over = how.get("statistics_type"), how.get("aggregator_type")
    return f"{over or 'default aggregate'} of {kind or 'default statistic'}" if kind or over else ""


def differing_arguments(arguments: Mapping[str, Json]) -> dict[str, Json]:
    """Those resolved arguments that are not NNCF's defaults, and the number of samples, with dotted names."""
    parameters = inspect.signature(nncf.quantize).parameters
    defaults = {name: parameters[name].default for name in arguments if parameters[name].default is not inspect.Parameter.empty}
    usual = flattened(resolved_arguments({**dict.fromkeys(arguments), **defaults}))
    return {name: value for name, value in flattened(arguments).items() if name == "subset_size" or usual.get(name) != value}


def resolved_arguments(given: Mapping[str, Any]) -> dict[str, Json]:
    """Keywords of NNCF as JSON, its own defaults in the place of None."""
    defaults = {"preset": None, "target_device": nncf.TargetDevice.ANY, "advanced_parameters": AdvancedQuantizationParameters()}
    return {name: _plain(defaults.get(name) if value is None else value) for name, value in sorted(given.items())}


def native(kind: Any, value: Any, name: str) -> Any:
    """``value`` as NNCF's own class: enums by value, dataclasses from mappings, nested ones too."""
    if value is None or isinstance(value, kind):
        return value
    try:
        if issubclass(kind, Enum):
            return kind(value)
        hints = get_type_hints(kind)
        return kind(**{key: _nested(hints.get(key), part, f"{name}.{key}") for key, part in value.items()})
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"keyword {name} of nncf.quantize: {error}", got=repr(value), expected=f"what nncf.{kind.__name__} takes"
        ) from error


def _nested(hint: Any, value: Any, name: str) -> Any:
    kinds = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type)]
    kind = next((kind for kind in kinds if issubclass(kind, Enum) or dataclasses.is_dataclass(kind)), None)
    if kind is None or (issubclass(kind, Enum) and isinstance(value, bool)):
        return value
    return native(kind, value, name)


def _plain(value: Any) -> Json:
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {part.name: _plain(getattr(value, part.name)) for part in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


@contextmanager
def muted() -> Iterator[None]:
    """Lets NNCF's warnings through; keeps the rest of its log, and bars that nobody sees, to itself in this thread alone."""
    logging.getLogger("nncf").addFilter(_DETAILS)  # adds it once
    vars(track_progress)["Progress"] = _Bar
    with silent():
        yield
