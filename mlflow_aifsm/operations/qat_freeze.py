"""A trained fake-quantized module into an integer file with both its logs: how it was converted, and how it was optimized."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mlflow_aifsm import identity, scratch
from mlflow_aifsm.backends import fake_quantized
from mlflow_aifsm.backends.exporters import Exported, to_onnx
from mlflow_aifsm.backends.fake_quantized import Example
from mlflow_aifsm.backends.integer_agreement import compared
from mlflow_aifsm.backends.integer_export import integer_file
from mlflow_aifsm.backends.integer_graph import SUFFIX
from mlflow_aifsm.backends.quantized import Quantized
from mlflow_aifsm.capture.onnx_graph import opened
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, Finding, measured
from mlflow_aifsm.hooks.context import record_conversion
from mlflow_aifsm.lineage import Relation, VerifiedModel
from mlflow_aifsm.operations import sources
from mlflow_aifsm.operations.configs import Onnx
from mlflow_aifsm.operations.freeze import convert
from mlflow_aifsm.operations.qat_agreement import Made, agreement_fact
from mlflow_aifsm.operations.qat_facts import counted
from mlflow_aifsm.operations.qat_start import Begun, Given, Tensors, inputs, read, state_of
from mlflow_aifsm.operations.sources import SourceModel
from mlflow_aifsm.result import Result
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.verification.criterion import OPTIMIZATION, Verification

AGREEMENT_SAMPLES, BATCH = 32, 4
"""Samples on which file and trained module are compared, and how many at a time: all activations of a batch are held."""


def made_file(model: nn.Module, handed: Given, example_inputs: Any, asked: Onnx) -> Made:
    """The integer file of a trained module, compared with it.

    Raises:
        InputError: If the example does not fit.
        ConversionError: If the exporter fails.
        OptimizationError: If a quantizer holds what 8 bits cannot.
    """
    if asked.exporter != "dynamo":
        raise InputError("exporter of an integer file", got=repr(asked.exporter), expected="'dynamo'")
    trained = sources.copied(model).cpu()
    source = sources.opened(trained, handed.example if example_inputs is None else example_inputs, None)
    module, example = _module(source), (source.args, source.kwargs)
    settings = {"opset": asked.opset, "dynamic_shapes": asked.dynamic_shapes, "strip_source_paths": asked.strip_source_paths}
    file = integer_file(module, example, handed.asked.activations, **settings)
    agreement = compared(file, module, _batches(handed, source))
    return Made(source, file, opened(file.path), fake_quantized.held(module), state_of(trained), agreement)


def check_fits(made: Made, verification: Verification) -> None:
    """Runs the trained module on the first held-out sample.

    Raises:
        InputError: If the module does not take it.
    """
    arrays = next(read(Samples.of(verification.data).first(1), made.source, 1))
    args, kwargs = inputs((made.source.args, made.source.kwargs), arrays)
    try:
        with torch.no_grad():
            _module(made.source)(*args, **kwargs)
    except Exception as error:
        got = f"shapes {[list(array.shape) for array in arrays]}"
        raise InputError(f"held-out data do not fit the model: {' '.join(str(error).split())}", got=got) from error


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
    told = counted(epochs, "epoch") if epochs else "an untold number of epochs"
    text = f"Quantization-aware training: {told}, {counted(steps, 'optimizer step')} seen; "
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
    for name, codes in ((name, codes) for name, several in made.file.codes.items() for codes in several):
        stored = made.delivered.scopes[0].initializer(codes)
        old = before[name].numpy()
        if stored is None:
            continue
        factors = np.asarray(made.file.factors.get(codes.removesuffix(SUFFIX), (1.0,)))
        now = made.delivered.array(stored).astype(np.int16)
        axis = next((place for place, length in enumerate(now.shape) if length == factors.size), 0)
        signs = np.where(factors < 0, -1, 1).reshape([-1 if place == axis else 1 for place in range(now.ndim)])
        total, different = total + now.size, different + int(np.count_nonzero(now * signs != old))
    return total, different
