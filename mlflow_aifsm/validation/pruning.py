"""Faults of a pruning: other weights gone than asked, masks in the file, zeros lost, a class that no average misses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn.utils import prune

from mlflow_aifsm import audit
from mlflow_aifsm.backends import onnx_prune
from mlflow_aifsm.capture import tiles
from mlflow_aifsm.capture.patterns import ELEMENT, Pattern
from mlflow_aifsm.capture.tiles import Selection
from mlflow_aifsm.operations.configs import BATCH, Pt2
from mlflow_aifsm.operations.pruning import Magnitude
from mlflow_aifsm.result import Result
from mlflow_aifsm.samples import Data
from mlflow_aifsm.sources import Array
from mlflow_aifsm.validation.bench import (
    architecture,
    frozen,
    good,
    half,
    network,
    optimized,
    pruned,
    quantized,
    sparse,
    traced,
)
from mlflow_aifsm.validation.models import Digits, Residual, digits
from mlflow_aifsm.validation.trial import fault, finding
from mlflow_aifsm.verification.criterion import Verification

TABLE = "AI-FSM Model Optimization Log v1.0, Table 1, Pruning"
PHIMT0002 = "AI-FSM PhIMT0002, Elimination of Training-Specific Operations"
VERIFIED = "Automotive SPICE 4.0, MLE.4 BP4 and BP6"
NINE, RARE = 9, 10
"""The class whose output channel is the smallest, and how many of its samples stay in the verification data."""
_torch: Any = prune
"""PyTorch's functions, which have no types."""


@fault(finding("pattern_not_held", "element-wise", "in conv.weight"), f"{TABLE} patterns; pytorch, torch.nn.utils.prune")
def channels_asked_and_single_weights_pruned() -> Result:
    """A quarter of the channels of the convolution is to be pruned; PyTorch prunes as many weights, one by one."""

    def scattered(module: nn.Module, name: str, amount: int, importance_scores: torch.Tensor, **_: Any) -> None:
        count = amount * importance_scores[0].numel()
        _torch.l1_unstructured(module, name, count, importance_scores=importance_scores)

    with _replaced(prune, "ln_structured", scattered):
        return pruned(network(), Magnitude(0.25, "local", "channel", layers=("conv",)))


@fault(finding("pattern_not_held", "element-wise", "in conv.weight, fc.weight"), f"{TABLE} patterns")
def blocks_asked_and_single_weights_pruned() -> Result:
    """Blocks of 4 by 4 are to be pruned in a frozen file; the same share of its weights is, one by one."""

    def scattered(scores: Mapping[str, Array], _: Pattern, amount: float, scope: str) -> Selection:
        return tiles.select(scores, Pattern.of(ELEMENT), amount, scope)

    with _replaced(onnx_prune, "select", scattered):
        return pruned(good(), Magnitude(0.3, pattern="block:4x4"))


@fault(finding("amount_not_held", "30.0% of their"), f"{TABLE} criteria; Zhu and Gupta 2017, arXiv 1710.01878")
def half_asked_and_less_pruned() -> Result:
    """Half of the weights of a frozen file are to be pruned; three in ten are."""

    def sparing(scores: Mapping[str, Array], pattern: Pattern, amount: float, scope: str) -> Selection:
        return tiles.select(scores, pattern, 0.6 * amount, scope)

    with _replaced(onnx_prune, "select", sparing):
        return pruned(good(), Magnitude(0.5))


@fault(finding("threshold_not_held", "a pruned tile scores"), f"{TABLE} criteria; Han et al. 2015, arXiv 1506.02626")
def largest_weights_pruned() -> Result:
    """The smallest weights are to be pruned; PyTorch prunes the largest ones, as many of them."""
    usual = _torch.global_unstructured

    def contrary(parameters: Sequence[Any], method: Any, importance_scores: Mapping[Any, torch.Tensor], **asked: Any) -> None:
        most = max(float(scores.max()) for scores in importance_scores.values())
        usual(parameters, method, {one: most - scores for one, scores in importance_scores.items()}, **asked)

    with _replaced(prune, "global_unstructured", contrary):
        return pruned(network(), Magnitude(0.3))


@fault(finding("training_operation_left", "fc.weight_mask"), f"{PHIMT0002}; pytorch, torch.nn.utils.prune.remove")
def masks_frozen_with_the_module() -> Result:
    """A module is frozen to a pt2 archive with its pruning masks in force: each run multiplies them in."""
    return frozen(_masked(), Pt2(dynamic_shapes=BATCH))


@fault(finding("masks_left", "weights multiplied with masks"), f"{PHIMT0002}; pytorch, torch.nn.utils.prune.remove")
def masks_left_by_an_exporter() -> Result:
    """A pruned module is exported elsewhere without folding of constants: masks and unpruned weights are in the file."""
    return optimized(traced(_masked(), do_constant_folding=False))


@fault(finding("zeros_lost", "zero no more"), f"{TABLE} patterns; Nagel et al. 2020, arXiv 2004.10568: moved weights")
def zeros_lost_by_a_later_quantization() -> Result:
    """The quantizer moves weights before it rounds them, and the pruned ones with them."""
    # NNCF takes seconds to import, and a list of the trials does not need it
    import nncf

    usual: Any = nncf.quantize

    @wraps(usual)
    def moving(model: onnx.ModelProto, *given: Any, **asked: Any) -> Any:
        for tensor in (one for one in model.graph.initializer if len(one.dims) > 1):
            values = numpy_helper.to_array(tensor)
            moved = np.where(values == 0, np.abs(values).max() / 50, values).astype(values.dtype)
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
        return usual(model, *given, **asked)

    with _replaced(nncf, "quantize", moving):
        return quantized(model=half())


@fault(
    finding("changed_after_verification", "pruned"),
    f"{VERIFIED}; EASA Concept Paper Issue 02, CM-01",
)
def pruned_after_its_verification_and_frozen() -> Result:
    """A verified model is pruned and trained, then frozen: the Model Conversion Log names a model that is another one now."""
    made = sparse()
    conversion = audit.load_record(made.run_id, log="conversion")
    return replace(made, log_id=conversion.log_id, record=conversion)


@fault(finding("data_reused", "60 samples are in both"), "Automotive SPICE 4.0, MLE.4 BP2; EASA Concept Paper Issue 02, DM-06")
def fine_tuned_on_verification_data() -> Result:
    """The training that wins accuracy back sees samples that verify the pruned model afterwards."""
    parts = [digits()["training"].part(slice(600)), digits()["verification"].part(slice(60))]
    mixed = Digits(np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts]))
    return pruned(network(), Magnitude(0.5), training=mixed)


@fault(finding("worst_class_lost", "class 9", "0.0000 after, of 10 samples"), "Hooker et al. 2019, arXiv 1911.05248")
def rare_class_lost_while_accuracy_holds() -> Result:
    """The residual network loses the output channel of class 9, rare in the verification data: its accuracy does not fall."""
    data = digits()["verification"]
    dropped = np.flatnonzero(data.labels == NINE)[RARE:]
    kept = data.part(np.setdiff1d(np.arange(len(data.labels)), dropped))
    rare = Verification(Data(kept.images, name="digits", version="verification with few nines"), kept.labels)
    return pruned(architecture(Residual), Magnitude(0.1, "local", "channel", layers=("fc",)), rare)


def _masked() -> nn.Module:
    """The plain network with masks in force, half of the weights of each layer pruned."""
    module = network()
    for layer in (module.conv, module.fc):
        _torch.l1_unstructured(layer, "weight", 0.5)
    return module


@contextmanager
def _replaced(holder: object, name: str, instead: Callable[..., Any]) -> Iterator[None]:
    """While it lasts, ``instead`` stands for a function: a tool that does not do what it is asked for, and does not say so."""
    original = getattr(holder, name)
    setattr(holder, name, instead)
    try:
        yield
    finally:
        setattr(holder, name, original)
