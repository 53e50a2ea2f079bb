"""What quantization-aware training begins with: the module, its calibrated ranges, and all that is compared with it later."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from mlflow_aifsm import lineage
from mlflow_aifsm.backends import fake_quantized, nncf, nncf_training
from mlflow_aifsm.backends.fake_quantized import Example, Held
from mlflow_aifsm.backends.integer_export import weight_codes
from mlflow_aifsm.backends.quantized import plain
from mlflow_aifsm.calibration.facts import method_fact, words
from mlflow_aifsm.calibration.reading import Witness
from mlflow_aifsm.calibration.statistics import Grid
from mlflow_aifsm.capture.layer_names import matching
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, Json
from mlflow_aifsm.lineage import VerifiedModel
from mlflow_aifsm.operations import float_model, sources
from mlflow_aifsm.operations.asked import asked as asked_facts
from mlflow_aifsm.operations.qat_checks import Asked, asked_of, check_data, ignored, module_of
from mlflow_aifsm.operations.quantization import ACTIVATIONS, Static
from mlflow_aifsm.operations.sources import SourceModel
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.sources import Array

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller handed over.

    Attributes:
        module: The caller's module, which nobody changes.
        base: A copy of it in evaluation mode, on the CPU, with its example inputs and digest.
        example: The example inputs as they were given.
        asked: What is asked.
        samples: Calibration samples; None where an interrupted training has its ranges already.
        verified: The verified learning model.
        origin: The MLflow model that the module was loaded from, if it was.
    """

    module: nn.Module
    base: SourceModel
    example: Any
    asked: Asked
    samples: Samples | None
    verified: VerifiedModel | None
    origin: VerifiedModel | None


@dataclass(frozen=True, slots=True)
class Begun:
    """The fake-quantized module before its first step, and what was known then.

    Attributes:
        model: The module to train.
        before: What its quantizers held.
        codes: Codes of each weight, by quantizer.
        state: All tensors of the module, on the CPU.
        facts: What is known of calibration and of what was asked.
        call: Function, arguments and differing arguments of the quantization.
    """

    model: nn.Module
    before: tuple[Held, ...]
    codes: Tensors
    state: Tensors
    facts: tuple[Fact, ...]
    call: Json


def given(model: Any, data: Any, config: Any, example_inputs: Any, verified_model: str | None, *, resume: bool) -> Given:
    """What was handed over, checked before any work.

    Raises:
        InputError: If model, data, config or example do not fit.
        NotFoundError: If a URI names no model.
    """
    module, origin = module_of(model)
    asked = asked_of(config, module)
    if not resume:
        check_data(data)
    samples = None if data is None else Samples.of(data)
    base = sources.copied(module).cpu()
    example = example_inputs
    if example is None:
        example = lineage.input_example(origin) if origin is not None else None
    if example is None and samples is None:
        remedy = "pass the calibration samples again as data=, or example_inputs="
        raise InputError("the model cannot be called to go on with its training", got="no example inputs", remedy=remedy)
    if example is None:
        example = float_model.example(samples, base)
    source = sources.opened(base, example, None)
    verified = lineage.named(verified_model) or origin or lineage.of_project()
    return Given(module, source, example, asked, samples, verified, origin)


def begun(handed: Given) -> Begun:
    """Quantizes a copy of the module with ranges from the calibration samples.

    Raises:
        InputError: If samples do not fit, or ``keep_float`` names no layer.
        OptimizationError: If NNCF refuses.
    """
    asked, example = handed.asked, (handed.base.args, handed.base.kwargs)
    samples = Samples.of(handed.samples).first(asked.subset_size)
    witness = Witness()
    device = _device(handed.module)
    items = [_item(inputs(example, batch, device)) for batch in read(samples, handed.base, 1, witness)]
    made = nncf_training.quantized(handed.module, items, _keywords(asked, handed.base))
    call = {"function": made.function, "arguments": made.arguments, "shown": made.shown}
    facts = _facts(asked, samples, witness, made.arguments)
    on_host = copy.deepcopy(made.model).cpu()
    return Begun(made.model, fake_quantized.held(on_host), weight_codes(on_host, example), state_of(on_host), facts, call)


def state_of(model: nn.Module) -> Tensors:
    """All tensors of a module by name: copies on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def asked_json(asked: Asked, *, learn: bool) -> Json:
    """What was asked, to be compared with what is asked when training goes on."""
    settings = {one.name: plain(getattr(asked.config, one.name)) for one in fields(asked.config)}
    return {"kind": type(asked.config).__name__, "settings": settings, "learn_scales": learn}


def read(samples: Samples, source: SourceModel, size: int, witness: Witness | None = None) -> Iterator[list[Array]]:
    """Batches of the arrays that the module takes, in the order of its inputs, floats as float32 where the example has them so.

    Raises:
        InputError: If the samples do not fit, or one is NaN or infinite.
    """
    leaves = [leaf for leaf in pytree.tree_leaves((source.args, source.kwargs)) if isinstance(leaf, torch.Tensor)]
    names = source.names
    ranks = {name: leaf.dim() for name, leaf in zip(names, leaves, strict=True)}
    for batch, labels in samples.batches(size, names, ranks):
        if witness is not None:
            witness.see(batch, labels)
        yield [batch[name] for name in names]


def inputs(example: Example, arrays: list[Array], device: torch.device | None = None) -> Example:
    """The example with its tensors replaced by arrays, in order and in its element types."""
    leaves, spec = pytree.tree_flatten((example[0], dict(example[1])))
    fed = iter(arrays)

    def tensor(leaf: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(next(fed))).to(device or leaf.device, leaf.dtype)

    filled = [tensor(leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    args, kwargs = pytree.tree_unflatten(filled, spec)
    return tuple(args), dict(kwargs)


def _item(example: Example) -> Any:
    """An item as NNCF takes it: by position or by name, not both."""
    args, kwargs = example
    if args and kwargs:
        expected = "inputs that can all be given by position, or all by name"
        raise InputError(
            "NNCF cannot call this module", got=f"{len(args)} by position, {', '.join(kwargs)} by name", expected=expected
        )
    return dict(kwargs) if kwargs else tuple(args)


def _device(module: nn.Module) -> torch.device:
    return next((one.device for one in module.parameters()), torch.device("cpu"))


def _keywords(asked: Asked, base: SourceModel) -> dict[str, Any]:
    kept = getattr(asked.config, "keep_float", ())
    if not kept:
        return dict(asked.keywords)
    known = nncf_training.nodes(_module(base), (base.args, base.kwargs))
    return {**asked.keywords, "ignored_scope": ignored(kept, matching(known, kept, "keep_float"))}


def _module(base: SourceModel) -> nn.Module:
    if not isinstance(base.model, nn.Module):
        raise InputError("quantization-aware training needs the module", got=type(base.model).__name__)
    return base.model


def _facts(asked: Asked, samples: Samples, witness: Witness, arguments: dict[str, Json]) -> tuple[Fact, ...]:
    phrase, short = nncf.estimator(arguments)
    if isinstance(asked.config, Static):
        symmetric = asked.config.schemes[ACTIVATIONS] == "symmetric"
        phrase, short = words(asked.config.ranges, Grid(256, symmetric=symmetric), asked.config.percentile), asked.config.ranges
    method = method_fact(
        f"{phrase}; of the ranges that training began with",
        short,
        witness.seen,
        samples,
        asked.subset_size,
        preprocess=samples.preprocessing,
        source="arguments of nncf.quantize, and the samples it read",
    )
    known = asked_facts(asked.config) if isinstance(asked.config, Static) else ()
    source = "arguments of quantization_aware_training"
    return (method, *(replace(fact, source=replace(fact.source, origin=source)) for fact in known))
