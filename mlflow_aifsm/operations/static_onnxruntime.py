"""``Static`` on ONNX Runtime: our ranges, its placement, so that the layers really run in integers there.

One pass over the calibration samples yields the ranges of all estimators; the file is then made as often as a target of
accuracy, or a comparison with and without bias correction, needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlflow_aifsm.backends import onnxruntime
from mlflow_aifsm.backends.quantized import Quantized
from mlflow_aifsm.calibration.estimators import Estimate, estimate
from mlflow_aifsm.calibration.facts import clip_fact, distributions, method_fact, table, words
from mlflow_aifsm.calibration.observer import Observation, observe
from mlflow_aifsm.capture import quantizers
from mlflow_aifsm.capture.activations import activations
from mlflow_aifsm.capture.layer_names import selected
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.capture.quantizer import ACTIVATION
from mlflow_aifsm.facts import Fact, Json
from mlflow_aifsm.operations.asked import asked
from mlflow_aifsm.operations.outcome import Outcome, Task, kept_reasons
from mlflow_aifsm.operations.overrides import Overrides, grid_of, overrides_of
from mlflow_aifsm.operations.quantization import ACTIVATIONS, WEIGHTS, Static
from mlflow_aifsm.operations.recovery import Recovery
from mlflow_aifsm.operations.verbatim import samples_of
from mlflow_aifsm.progress import progress
from mlflow_aifsm.samples import Samples

PACKAGES = ("onnxruntime", "onnx")
HANDED = "ranges handed to ONNX Runtime by its calibration cache"


def quantize(task: Task, config: Static) -> Outcome:
    """Makes the file that ``config`` describes.

    Raises:
        InputError: If samples are missing or do not fit, or a pattern names no layer.
        OptimizationError: If ONNX Runtime refuses.
    """
    samples = samples_of(task)
    placement = Placement.of(task.path, samples, config)
    recovered = Recovery(config, placement.made, task.path, samples, placement.layers).run(placement.asked_float)
    estimates = placement.used(recovered.quantized.path)
    facts = (*_calibration(task, config, placement, estimates), *asked(config), *recovered.facts)
    tables = {"calibration": table(estimates), "distributions": distributions(placement.observation.tensors, estimates)}
    reasons = {**recovered.reasons, **placement.reasons}
    framework = f"ONNX Runtime {version('onnxruntime')}"
    notes = (recovered.note,) if recovered.note else ()
    return Outcome(
        recovered.quantized,
        framework,
        PACKAGES,
        facts,
        tables,
        reasons,
        placement.asked_float,
        placement.overrides.asked,
        recovered.findings,
        notes,
    )


@dataclass(frozen=True)
class Placement:
    """A float file whose activations were observed, ready to be placed with any layers in float.

    Attributes:
        path: The float file.
        config: What was asked.
        observation: Statistics of its activations.
        standing: Tensors whose range is that of another.
        outputs: Outputs of the graph; their ranges are never clipped.
        kept: Layers that stay in float by ``keep_float``, by pattern.
        overrides: Settings by layer.
    """

    path: Path
    config: Static
    observation: Observation
    standing: Mapping[str, str]
    outputs: tuple[str, ...]
    kept: Mapping[str, tuple[str, ...]]
    overrides: Overrides

    @staticmethod
    def of(path: Path, samples: Samples, config: Static) -> Placement:
        """Observes the file on ``samples``, in one pass, after all names were looked up."""
        file = opened(path)
        kept = selected(file, config.keep_float, "keep_float")
        overrides = overrides_of(file, config)
        named = {name for names in kept.values() for name in names}
        found = activations(path, onnxruntime.QUANTIZABLE, named)
        with progress("calibrating") as shown:
            observation = observe(path, found.observed, samples, shown)
        return Placement(path, config, observation, found.standing, found.outputs, kept, overrides)

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """The range of every observed tensor, as asked; an output of the graph keeps all it showed."""
        grid = grid_of(self.config.activations, self.config.schemes[ACTIVATIONS])
        found = estimate(self.observation, self.config.ranges, grid, self.config.percentile)
        whole = estimate(self.observation, "min_max", grid)
        note = "an output of the graph: min_max used instead"
        clipped = {name for name in self.outputs if name in found and found[name].method != "min_max"}
        found |= {name: replace(whole[name], note=note) for name in clipped}
        return {**found, **self.overrides.estimates(self.observation)}

    def used(self, path: Path) -> dict[str, Estimate]:
        """Those ranges that the quantizers of the file at ``path`` hold."""
        labels = {row.label for row in quantizers.read(path) if row.kind == ACTIVATION}
        standing = {other for name, other in self.standing.items() if name in labels}
        return {name: one for name, one in self.estimates.items() if name in labels | standing}

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that are quantized unless they are kept in float."""
        file = opened(self.path)
        asked_float = set(self.asked_float)
        return tuple(node.name for node in file.nodes if node.op_type in onnxruntime.LAYERS and node.name not in asked_float)

    @property
    def asked_float(self) -> tuple[str, ...]:
        """Nodes that stay in float because the caller says so."""
        return tuple(dict.fromkeys(name for names in self.kept.values() for name in names))

    @property
    def reasons(self) -> dict[str, str]:
        """Why, by node."""
        return kept_reasons(self.kept)

    def made(self, in_float: tuple[str, ...], only: str = "") -> Quantized:
        """The file with the nodes ``in_float`` left alone, or with nothing but the node ``only`` quantized."""
        ranges = {name: (one.low, one.high) for name, one in self.estimates.items()}
        ranges |= {name: ranges[other] for name, other in self.standing.items()}
        return onnxruntime.placed(self.path, ranges, self._keywords(in_float, only))

    def _keywords(self, in_float: tuple[str, ...], only: str) -> dict[str, Any]:
        config, schemes = self.config, self.config.schemes
        options: dict[str, Any] = {
            "WeightSymmetric": schemes[WEIGHTS] == "symmetric",
            "ActivationSymmetric": schemes[ACTIVATIONS] == "symmetric",
        }
        if self.overrides.layers:
            options["TensorQuantOverrides"] = self.overrides.tensors
        return {
            "per_channel": config.granularities[WEIGHTS] == "channel",
            "weight_type": onnxruntime.TYPES[config.weights],
            "activation_type": onnxruntime.TYPES[config.activations],
            "extra_options": options,
            **({"nodes_to_exclude": list(in_float)} if in_float else {}),
            **({"nodes_to_quantize": [only]} if only else {}),
        }


def _calibration(task: Task, config: Static, placement: Placement, estimates: dict[str, Estimate]) -> tuple[Fact, ...]:
    samples = samples_of(task)
    grid, seen = grid_of(config.activations, config.schemes[ACTIVATIONS]), placement.observation.seen
    parameters: dict[str, Json] = {"levels": grid.levels, "symmetric": grid.symmetric}
    parameters |= {"percentile": config.percentile} if config.ranges == "percentile" else {}
    others = {name: method for name, method in placement.overrides.methods.items() if method != config.ranges}
    parts = [words(config.ranges, grid, config.percentile)]
    parts += [f"{method} in {name}, as overrides say" for name, method in others.items()]
    parameters |= {"overrides": others} if others else {}
    phrase = "; ".join((*parts, HANDED)) if estimates else "; ".join((*parts, "no activation of the file has a quantizer"))
    fact = method_fact(
        phrase,
        config.ranges,
        seen,
        samples,
        task.asked,
        preprocess=samples.preprocessing,
        estimates=estimates,
        parameters=parameters,
    )
    return (fact, clip_fact(estimates)) if estimates else (fact,)
