"""Pruning of a PyTorch module in steps, with what wins accuracy back between them, and what each step was measured to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from math import isfinite
from pathlib import Path

import torch
from torch import nn

from mlflow_aifsm.backends import fine_tuning, torch_prune, torch_scores
from mlflow_aifsm.backends.pruned import Applied, check, named
from mlflow_aifsm.backends.quantized import failed
from mlflow_aifsm.backends.torch_weights import Prunable
from mlflow_aifsm.calls import call_fact
from mlflow_aifsm.capture.torch_module import state_digest
from mlflow_aifsm.errors import AifsmError, InputError
from mlflow_aifsm.facts import Fact, Json
from mlflow_aifsm.operations import sources, tuned
from mlflow_aifsm.operations.configs import BATCH, Onnx
from mlflow_aifsm.operations.freeze import exported_file
from mlflow_aifsm.operations.generators import kept
from mlflow_aifsm.operations.prune_file import CALL, shown
from mlflow_aifsm.operations.pruned import Pruned
from mlflow_aifsm.operations.pruning import FineTuning, Given, Gradient, Pruning
from mlflow_aifsm.operations.quantize_step import replay, told
from mlflow_aifsm.operations.start import Start
from mlflow_aifsm.operations.steps import Step
from mlflow_aifsm.operations.watch import NOTE, Watch
from mlflow_aifsm.progress import progress
from mlflow_aifsm.recording import Recording
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.tracking.curve import Point, log_curve
from mlflow_aifsm.verification.criterion import Verification

OWN = "custom_from_mask"
"""PyTorch's function that applies masks it did not make."""


def checked(module: nn.Module, config: Pruning, given: Given) -> tuple[Prunable, ...]:
    """The weights that ``config`` chooses; what does not fit them, or cannot be computed, is refused.

    Raises:
        InputError: If data or loss are missing, a name means no layer, or a pattern is larger than a layer.
    """
    if isinstance(config, Gradient) and (given.samples is None or given.loss is None):
        missing = " and ".join(name for name, one in (("data", given.samples), ("loss", given.loss)) if one is None)
        remedy = "pass data=, with labels, and loss=, or ask for Magnitude"
        raise InputError("Gradient needs the gradient of a loss on data", got=f"no {missing}", remedy=remedy)
    if config.batch_norm_adaptation and given.samples is None:
        raise InputError("batch_norm_adaptation needs data", got="none", remedy="pass data=")
    layers = chosen(torch_prune.prunable(module), config)
    if isinstance(config, Gradient) and given.samples is not None and given.loss is not None:
        torch_scores.tried(module, layers, given.samples, given.loss)
    return layers


def chosen(layers: Sequence[Prunable], config: Pruning) -> tuple[Prunable, ...]:
    """Those of ``layers`` that ``config`` names; one that its pattern does not fit is refused.

    Raises:
        InputError: If a name means no layer, or a pattern or an amount does not fit one.
    """
    tensors = named({layer.tensor: layer.aliases for layer in layers}, config.layers, config.keep_dense)
    found = tuple(layer for layer in layers if layer.tensor in tensors)
    for share in config.shares:
        check({layer.tensor: layer.matrix for layer in found}, config.tiles, share, config.scope)
    return found


def begun(log: Recording, start: Start, verification: Verification | None) -> tuple[ModulePruning, Path]:
    """A pruning of the module of ``start``, and the module exported as it is, which all is compared with.

    Raises:
        InputError: If the module cannot be copied, or its example does not fit.
        ConversionError: If the exporter fails.
    """
    source = sources.opened(start.module, start.example, None)
    dense = exported_file(source, Onnx(dynamic_shapes=BATCH)).path
    watch = Watch(dense, (source.args, source.kwargs), verification) if verification else None
    if watch:
        log.note(NOTE)
    return ModulePruning(log, start.module, watch), dense


class ModulePruning:
    """A copy of a module that is pruned and trained; masks stay in force until ``finalize``.

    Args:
        log: The log, whose run gets a metric for each step.
        module: The caller's module, which stays as it is.
        watch: What judges the copy after each step; None where there are no data for it.

    Attributes:
        module: The copy.
        pruned: The calls that pruned.
        number: Which call of the optimization is being made, from 1 on.
        steps: What was done, in its order; what went in is the first.
    """

    def __init__(self, log: Recording, module: nn.Module, watch: Watch | None) -> None:
        self._log, self._watch = log, watch
        self.module = sources.copied(module)
        self._layers = torch_prune.prunable(self.module)
        log.note(*filter(None, [torch_prune.left_out(self.module).text]))
        self.pruned: list[Pruned] = []
        self.number = 0
        self._data: dict[int, Samples] = {}
        self.steps: list[Step] = []
        self._add("start", "as given")

    def prune(self, config: Pruning, given: Given) -> None:
        """Prunes, adapts and trains, as often as ``config`` has steps.

        Raises:
            InputError: If config and data do not fit the module.
            OptimizationError: If NNCF refuses the module.
        """
        layers = chosen(self._layers, config)
        untouched = len(self.steps) == 1 and len(config.shares) == 1 and not isinstance(config, Gradient)
        scores = torch_scores.magnitude(self.module, layers) if untouched else None
        applied: list[Applied] = []
        first = len(self.steps)
        for share in config.shares:
            applied.append(self._applied(config, layers, share, given))
            where = f"{len(layers)} layer{'' if len(layers) == 1 else 's'}"
            self._add("prune", f"{applied[-1].amount:.1%} of the weights of {where} pruned")
            self._recover(config, given)
        self.steps[first] = replace(self.steps[first], call=self._call(config, applied))
        read = self._told(config, given)
        self.pruned.append(Pruned(config, tuple(applied), _framework(applied[-1]), ("torch", "numpy"), scores, read))
        if shared := [f"{layer.tensor} = {', '.join(layer.shared)}" for layer in layers if layer.shared]:
            self._log.note(f"Shared weights were pruned once, and all layers that use them: {'; '.join(shared)}.")
        if emptied := applied[-1].emptied:
            self._log.note(f"Nothing is left of {', '.join(emptied)}: the threshold is above all of its weights.")

    def fine_tune(self, tuning: FineTuning) -> None:
        """Trains the module with its masks in force; what the training really did is seen, not told.

        Raises:
            InputError: If the function let weights that are pruned come back.
        """
        with fine_tuning.observed(self.module) as seen:
            tuning.train(self.module)
        done, data = seen(), self._read(tuning)
        if not done.masks_held:
            raise InputError("fine_tune let pruned weights come back", got=done.regrown, remedy="train the module that it gets")
        if data is not None:
            self._log.data(data.name, data.digest, "training", data.sample_digests)
        self._add("fine_tune", tuned.text(done, tuning, data), tuned.numbers(done))
        self._log.note(*tuned.notes(done))

    def finalize(self) -> None:
        """Makes the zeros permanent; no mask and no hook is left.

        Raises:
            OptimizationError: If one is left.
        """
        torch_prune.finalize(self.module)

    def _told(self, config: Pruning, given: Given) -> str:
        """Lists the data that scores and statistics were taken on; returns what the scores come from, one phrase."""
        if given.samples is None or not (isinstance(config, Gradient) or config.batch_norm_adaptation):
            return ""
        samples, context = given.samples, "training" if isinstance(config, Gradient) else "calibration"
        with kept():
            self._log.data(samples.name, samples.digest, context, samples.sample_digests)
            described = samples.describe()
        loss = " ".join(str(getattr(given.loss, "__name__", type(given.loss).__name__)).split())
        return (
            f"of {loss} on {described}, averaged over batches of {torch_scores.BATCH}" if isinstance(config, Gradient) else ""
        )

    @kept()
    def _read(self, tuning: FineTuning) -> Samples | None:
        """The data of a training, digested once however often it trains."""
        if tuning.data is None:
            return None
        return self._data.setdefault(id(tuning.data), Samples.of(tuning.data))

    @kept()
    def _applied(self, config: Pruning, layers: tuple[Prunable, ...], share: float, given: Given) -> Applied:
        if isinstance(config, Gradient) and given.samples is not None and given.loss is not None:
            times = config.score == "weight_gradient"
            with progress("gradients") as shown:
                scores = torch_scores.gradient(
                    self.module, layers, given.samples, given.loss, times_weight=times, progress=shown
                )
        else:
            scores = torch_scores.magnitude(self.module, layers)
        try:
            return torch_prune.apply(self.module, layers, scores, config.tiles, share, config.scope)
        except AifsmError:
            raise
        except Exception as error:
            raise failed("torch.nn.utils.prune", error) from error

    def _recover(self, config: Pruning, given: Given) -> None:
        if config.batch_norm_adaptation and given.samples is not None:
            self._add("batch_norm_adaptation", tuned.adapted(self.module, given.samples, config.batch_norm_adaptation))
        if given.tuning is not None:
            self.fine_tune(given.tuning)

    def _call(self, config: Pruning, applied: Sequence[Applied]) -> Fact:
        """The call, with the arguments of each step where there were several."""
        last, several = applied[-1], len(applied) > 1
        arguments = {name: [one.arguments[name] for one in applied] for name in last.arguments} if several else last.arguments
        reached = f", reached {', '.join(f'{one.amount:.1%}' for one in applied)}" if several else ""
        what = f"{told(config)}{reached}"
        return call_fact(self._log.source, CALL, last.function, arguments, shown(arguments), replay(config), what)

    def _add(self, operation: str, what: str, numbers: Mapping[str, Json] | None = None) -> None:
        worth, zeros = self._watch.judge(self.module) if self._watch else None, self._zeros()
        told = {"pruned": zeros, **(numbers or {})}
        self.steps.append(Step(operation, what, self.number, state_digest(self.module), None, told, worth))
        keys = {"aifsm.pruning.zeros": zeros, **({f"aifsm.pruning.{worth[0]}": worth[1]} if worth else {})}
        points = [Point(key, value, len(self.steps) - 1) for key, value in keys.items() if isfinite(value)]
        log_curve(self._log.place.run_id, points)

    def _zeros(self) -> float:
        """Share of the weights of all layers that a mask holds at zero."""
        masks = torch_prune.masks(self.module, self._layers)
        return 1 - sum(int(mask.sum()) for mask in masks.values()) / sum(mask.size for mask in masks.values())


def _framework(applied: Applied) -> str:
    """What pruned: PyTorch, and, where it has no such selection, this package for the choice of tiles."""
    own = f", tiles chosen by mlflow-aifsm {version('mlflow-aifsm')}" if applied.function.endswith(OWN) else ""
    return f"PyTorch {torch.__version__} ({applied.function}){own}"
