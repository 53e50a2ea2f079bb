"""A trained fake-quantized module into an integer file with both its logs: how it was converted, and how it was optimized."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from mlflow_aifsm import identity, scratch
from mlflow_aifsm.backends import fake_quantized
from mlflow_aifsm.backends.exporters import Exported, to_onnx
from mlflow_aifsm.backends.fake_quantized import Example, Held
from mlflow_aifsm.backends.integer_agreement import Compared, compared
from mlflow_aifsm.backends.integer_export import IntegerFile, integer_file
from mlflow_aifsm.backends.integer_graph import SUFFIX
from mlflow_aifsm.backends.quantized import Quantized
from mlflow_aifsm.capture import float_layers
from mlflow_aifsm.capture.layer_names import module_path
from mlflow_aifsm.capture.onnx_graph import OnnxFile, file_set, node_name, opened
from mlflow_aifsm.digests import FileDigest
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, Finding, captured, measured, not_recorded
from mlflow_aifsm.hooks.context import record_conversion
from mlflow_aifsm.lineage import Relation, VerifiedModel
from mlflow_aifsm.operations import sources
from mlflow_aifsm.operations.configs import Onnx
from mlflow_aifsm.operations.freeze import convert
from mlflow_aifsm.operations.qat_start import Begun, Given, Tensors, inputs, read, state_of
from mlflow_aifsm.operations.sources import SourceModel
from mlflow_aifsm.result import Result
from mlflow_aifsm.verification import integer_execution
from mlflow_aifsm.verification.criterion import OPTIMIZATION, Verification

AGREEMENT_SAMPLES, BATCH = 32, 4
"""Samples on which file and trained module are compared, and how many at a time: all activations of a batch are held."""
FLOAT_KERNEL = "ONNX Runtime has no kernel on integers for it"


@dataclass(frozen=True, slots=True)
class Made:
    """An integer file, the module it was made of, and how the two agree.

    Attributes:
        source: The trained module in evaluation mode, on the CPU.
        file: The file.
        delivered: The file as it lies on disk.
        held: What the module's quantizers hold.
        state: The module's tensors.
        agreement: How the two agree.
    """

    source: SourceModel
    file: IntegerFile
    delivered: OnnxFile
    held: tuple[Held, ...]
    state: Tensors
    agreement: Compared

    @property
    def float_files(self) -> tuple[FileDigest, ...]:
        """The file of the trained weights without quantizers."""
        return file_set(self.file.float_path)


def made_file(model: nn.Module, handed: Given, example_inputs: Any, asked: Onnx) -> Made:
    """The integer file of a trained module, compared with it.

    Raises:
        InputError: If the example does not fit.
        ConversionError: If the exporter fails.
        OptimizationError: If a quantizer holds what 8 bits cannot.
    """
    if asked.exporter != "dynamo":
        raise InputError("exporter of an integer file", got=repr(asked.exporter), expected="'dynamo'")
    trained = copy.deepcopy(model).cpu()
    source = sources.opened(trained, handed.example if example_inputs is None else example_inputs, None)
    module, example = _module(source), (source.args, source.kwargs)
    settings = {"opset": asked.opset, "dynamic_shapes": asked.dynamic_shapes, "strip_source_paths": asked.strip_source_paths}
    file = integer_file(module, example, handed.asked.activations, **settings)
    agreement = compared(file, module, _batches(handed, source))
    return Made(source, file, opened(file.path), fake_quantized.held(module), state_of(trained), agreement)


def converted(
    made: Made,
    asked: Onnx,
    verified: VerifiedModel | None,
    verification: Verification | None,
    epsilon: int,
    where: Mapping[str, Any],
) -> Result:
    """Logs how the trained module became the file; its input is the trained module, which nobody has verified."""
    exported = made.file.exported
    done = Exported(made.file.path, exported.function, exported.arguments, exported.given, exported.stripped)
    related = None if verified is None else replace(verified, relation=Relation.CHANGED)
    with record_conversion(verified_model=related, **where) as log:
        log.input((), made.source.sha256)
        convert(log, made.source, asked, None, done)
        if (given := log.facts.get("input.id")) is not None:
            log.add(identity.changed(given, "trained on: quantization-aware training"))
        log.note(
            "Behind the exporter weights became codes, batch normalizations went into their scales, biases became int32 codes.",
            f"{agreement_fact(made.agreement, epsilon).value.text}.",
        )
        if verification is not None:
            log.verify(made.source.reference, verification, OPTIMIZATION)
    return log.finished


def quantized_of(made: Made, begun: Begun) -> Quantized:
    """The quantization as other steps hand theirs to the log."""
    call = begun.call
    return Quantized(made.file.path, str(call["function"]), dict(call["arguments"]), dict(call["shown"]))


def trained_fact(made: Made, begun: Begun, epochs: int, steps: int) -> Fact:
    """``recovery.qat``: that the file's weights are trained ones, shown by its codes beside those before training."""
    total, different = _codes_changed(made, begun.codes)
    unchanged = not weights_changed(begun.state, made.state)
    share = different / total if total else 0.0
    text = f"Quantization-aware training: {epochs or 'an untold number of'} epochs, {steps:,} optimizer steps seen; "
    text += f"{different:,} of {total:,} weight codes of the file ({share:.1%}) are others than before training"
    data = {"epochs": epochs, "steps": steps, "codes": total, "codes_changed": different, "weights_changed": not unchanged}
    findings = []
    if unchanged:
        effect = "the file is the model quantized after training, whatever it is called"
        findings = [
            Finding("no_training_step", asked="a training step", measured="every weight is what it was before", effect=effect)
        ]
    short = "not trained" if unchanged else "trained"
    return measured("recovery.qat", text, data, source=made.delivered.source, short=short, findings=findings)


def agreement_fact(agreement: Compared, epsilon: int) -> Fact:
    """``qat.agreement``: how the file agrees with the trained module, in quantization steps.

    Args:
        agreement: What was compared.
        epsilon: Largest difference of a code that agrees.
    """
    rows = agreement.rows
    if not rows:
        return not_recorded("qat.agreement", "no activation of the file is quantized, so there are no steps to compare in")
    largest, total, different = (
        max(row.largest for row in rows),
        sum(row.codes for row in rows),
        sum(row.different for row in rows),
    )
    steps = f"{largest} step{'' if largest == 1 else 's'} (at most {epsilon} asked)"
    text = (
        f"Given the trained model's values, each of {len(rows)} quantized activations of the file has the trained model's "
        f"codes within {steps}; {different:,} of {total:,} codes differ; outputs then differ by at most "
        f"{agreement.outputs:.2g}; {agreement.samples} samples"
    )
    worst = [row.tensor for row in rows if row.largest > epsilon]
    effect = "the file does not compute what was trained"
    missed = Finding(
        "file_not_as_trained",
        asked=f"codes within {epsilon}",
        measured=f"{largest} steps in {', '.join(worst[:5])}",
        effect=effect,
    )
    data = {"largest": largest, "epsilon": epsilon, "different": different, "codes": total, "outputs": agreement.outputs}
    source = "file and trained model, run side by side"
    return captured("qat.agreement", text, data, source=source, short=f"{largest} steps", findings=[missed] if worst else [])


def float_layers_fact(made: Made) -> Fact:
    """``qat.float_layers``: each layer that ONNX Runtime computes in float here, with the reason."""
    scope, found = made.delivered.scopes[0], integer_execution.float_layers(made.delivered.path)
    nodes = {node_name(node): node for node in scope.nodes}
    reasons = {name: _reason(made, name) for name in found}
    if not found:
        return measured(
            "qat.float_layers", "ONNX Runtime computes every layer in integers", {}, source=made.delivered.source, short="none"
        )
    named = [
        f"{module_path(scope, nodes[name]) or name}: {why}" if name in nodes else f"{name}: {why}"
        for name, why in reasons.items()
    ]
    return measured(
        "qat.float_layers",
        f"Computed in float: {'; '.join(named)}",
        reasons,
        source=made.delivered.source,
        short=f"{len(found)}",
    )


def weights_changed(before: Tensors, after: Tensors) -> bool:
    """Whether any parameter but those of quantizers has another value: statistics of a batch normalization are none."""
    running = ("running_mean", "running_var", "num_batches_tracked")
    names = [name for name in before if not name.startswith(fake_quantized.STORAGE) and not name.endswith(running)]
    return any(not before[name].equal(after[name]) for name in names)


def float_file(handed: Given, asked: Onnx) -> Path:
    """The model before training as a float file, by which outputs are judged.

    Raises:
        ConversionError: If the exporter fails.
    """
    base, path = handed.base, scratch.folder() / "base.onnx"
    return to_onnx(base.model, base.args, base.kwargs, path, opset=asked.opset, dynamic_shapes=asked.dynamic_shapes).path


def _module(source: SourceModel) -> nn.Module:
    if not isinstance(source.model, nn.Module):
        raise InputError("a trained module was expected", got=type(source.model).__name__)
    return source.model


def _batches(handed: Given, source: SourceModel) -> Iterator[Example]:
    """A few calibration samples; the example where there are none."""
    example = (source.args, source.kwargs)
    if handed.samples is None:
        yield example
        return
    few = handed.samples.first(AGREEMENT_SAMPLES)
    for arrays in islice(read(few, source, BATCH), AGREEMENT_SAMPLES // BATCH):
        yield inputs(example, arrays)


def _codes_changed(made: Made, before: Mapping[str, Any]) -> tuple[int, int]:
    """Number of weight codes of the file, and of those that are others than before; signs that folding changed put back."""
    total = different = 0
    for name, weight in made.file.weights.items():
        stored = made.delivered.scopes[0].initializer(weight + SUFFIX)
        old = before[name].numpy()
        if stored is None:
            continue
        now, factors = made.delivered.array(stored).astype(np.int16), np.asarray(made.file.factors.get(weight, (1.0,)))
        axis = next((place for place, length in enumerate(now.shape) if length == factors.size), 0)
        signs = np.where(factors < 0, -1, 1).reshape([-1 if place == axis else 1 for place in range(now.ndim)])
        total, different = total + now.size, different + int(np.count_nonzero(now * signs != old))
    return total, different


def _reason(made: Made, name: str) -> str:
    if name in made.file.reasons:
        return made.file.reasons[name]
    return FLOAT_KERNEL if name in float_layers.integer_layers(made.delivered) else "it is not quantized"
