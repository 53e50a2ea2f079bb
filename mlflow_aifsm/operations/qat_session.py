"""One quantization-aware training: what the user's loop holds on to, and what is kept between its epochs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from math import isfinite, nan
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mlflow_aifsm.backends import fake_quantized, nncf_training
from mlflow_aifsm.codec import structure, unstructure
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Json
from mlflow_aifsm.operations import qat_checkpoint as checkpoint
from mlflow_aifsm.operations import qat_log
from mlflow_aifsm.operations.configs import BATCH, Onnx
from mlflow_aifsm.operations.qat_checks import checked_numbers
from mlflow_aifsm.operations.qat_facts import Told, schedule_told
from mlflow_aifsm.operations.qat_start import Begun, Given, asked_json, state_of
from mlflow_aifsm.operations.qat_watch import Group, Watch
from mlflow_aifsm.recording import Recording
from mlflow_aifsm.result import Result
from mlflow_aifsm.tracking import write
from mlflow_aifsm.tracking.curve import Point, log_curve
from mlflow_aifsm.verification.criterion import Verification

PREFIX = "aifsm.qat."
"""What the keys of metrics by epoch begin with."""

Base = Result | str | None
"""An earlier log of the model: its result, or its id."""

_logger = logging.getLogger(__name__)


class QuantizationAwareTraining:
    """A training of a fake-quantized model. ``quantization_aware_training`` makes one.

    Attributes:
        model: The fake-quantized model: train it as any other.
        conversion: Result of the Model Conversion Log, once the model is frozen.
        metrics: Numbers by epoch, those of interrupted sessions before.
    """

    def __init__(
        self, handed: Given, begun: Begun, log: Recording, folder: Path | None, learn: bool, base: Base, told: Told
    ) -> None:
        self.model: nn.Module = begun.model
        self.conversion: Result | None = None
        self.metrics: list[dict[str, float]] = []
        self.log_id, self.run_id = log.log_id, log.place.run_id
        self.sessions: list[Json] = [{"seed": torch.initial_seed(), "threads": torch.get_num_threads()}]
        self.watch, self.base, self.told, self.learn = Watch(self.model, []), base, told, learn
        self.handed, self.begun, self.log = handed, begun, log
        self._folder, self._saved, self._frozen = folder, False, False
        self._failure: BaseException | None = None
        self._schedulers: list[Any] = []
        self._interrupted: tuple[checkpoint.State, checkpoint.Tensors] | None = None
        for quantizer in fake_quantized.quantizers(self.model).values():
            for value in fake_quantized.ranges(quantizer).values():
                value.requires_grad_(learn)

    @property
    def epochs(self) -> int:
        """Epochs that are done, those of interrupted sessions included: where the loop goes on."""
        return len(self.metrics)

    def optimizer(self, optimizer: Optimizer, scheduler: Any = None) -> None:
        """Tells which optimizer and which learning-rate scheduler train the model; a resumed training gives them their state.

        Optimizers show themselves by their steps; a scheduler's class does not.

        Args:
            optimizer: The optimizer, before its first step.
            scheduler: The scheduler; False if there is none; None leaves it untold.

        Raises:
            InputError: If the interrupted training had another optimizer.
        """
        number = len(self.watch.optimizers)
        self.watch.know(optimizer)
        self.told.optimizers.append(type(optimizer).__name__)
        if scheduler is not None:
            self.told.schedules.append(schedule_told(scheduler))
        if self._interrupted is not None and number < len(self._interrupted[0].optimizers):
            state, tensors = self._interrupted
            checkpoint.restore_optimizer(optimizer, number, state.optimizers[number], tensors)
        if scheduler:
            self._restore_scheduler(scheduler)
            self._schedulers.append(scheduler)

    def epoch(self, metrics: Mapping[str, float] | None = None, **numbers: float) -> None:
        """Ends an epoch: its metrics become points ``aifsm.qat.<name>`` of the run, and the checkpoint is written.

        Args:
            metrics: Numbers by name, where a name is no Python name.
            **numbers: Numbers by name: ``qat.epoch(loss=0.1, accuracy=0.98)``.

        Raises:
            InputError: If a name or a number is none, or the checkpoint cannot be written.
        """
        found = checked_numbers({**(metrics or {}), **numbers})
        step = self.epochs + 1
        rates = {"learning_rate": self.watch.groups[-1].last} if self.watch.groups else {}
        log_curve(self.run_id, [Point(PREFIX + name, value, step) for name, value in {**rates, **found}.items()])
        self.metrics.append(found)
        if self._folder is not None:
            self.save()

    def save(self, folder: str | Path | None = None) -> Path:
        """Writes the state of the training: weights, ranges, optimizers and generators, as safetensors and JSON.

        Args:
            folder: Where to; the folder given to ``checkpoint`` if None.

        Raises:
            InputError: If no folder is named, or it cannot be written to.
        """
        place = self._folder if folder is None else Path(folder)
        if place is None:
            raise InputError("no folder for the checkpoint", remedy="pass checkpoint= to quantization_aware_training")
        said, tensors = checkpoint.optimizer_state(self.watch.optimizers)
        tensors |= checkpoint.prefixed(checkpoint.MODEL, state_of(self.model))
        tensors |= checkpoint.prefixed(checkpoint.BEFORE, self.begun.state)
        tensors |= checkpoint.prefixed(checkpoint.CODES, self.begun.codes)
        checkpoint.save(place, self._state(said), tensors | checkpoint.generators())
        self._saved |= place == self._folder
        return place

    def callback(self) -> Any:
        """A callback for Lightning's ``Trainer``: tells optimizers, schedulers and the metrics of each epoch.

        Raises:
            InputError: If neither ``lightning`` nor ``pytorch_lightning`` is installed.
        """
        # Lightning is the user's own choice of loop, and no dependency of this package
        from mlflow_aifsm.operations.qat_lightning import callback

        return callback(self)

    def freeze(
        self,
        example_inputs: Any = None,
        config: Onnx | None = None,
        *,
        verification: Verification | None = None,
        replication: Verification | None = None,
        epsilon_steps: int = 1,
        conversion_log_id: str | None = None,
        registered_model_name: str | None = None,
    ) -> Result:
        """Freezes the trained model to an integer ONNX file, with a Model Conversion Log and a Model Optimization Log.

        Args:
            example_inputs: As in ``freeze``; those of the beginning if None.
            config: ``Onnx`` settings of the exporter; a dynamic batch if None.
            verification: Held-out data and limits; the model before training is the reference of the optimization.
            replication: What the file must show beside the trained fake-quantized model; the same data and the default
                criterion if None.
            epsilon_steps: Largest difference of a code, in quantization steps, layer by layer; more is a finding.
            conversion_log_id: Id of the conversion log; derived if None.
            registered_model_name: Name to register the file under.

        Returns:
            The file, where it was logged, and the record of the optimization; ``conversion`` holds the other one.

        A freeze that failed can be called again: the log says why it failed until then.

        Raises:
            InputError: If example, exporter or held-out data do not fit, or the model is frozen already.
            ConversionError: If the exporter fails; the log then says so.
            OptimizationError: If a quantizer holds what 8 bits cannot.
            TrackingError: If MLflow refuses; file and record are then kept on disk.
        """
        if self._frozen:
            raise InputError(f"log {self.log_id} is finished", remedy="begin another training")
        judged = qat_log.Judged(verification, replication, epsilon_steps, conversion_log_id)
        # a failure leaves this log as it was before: what a failed freeze wrote into it is not said of the next
        log = deepcopy(self.log)
        log.registered_model_name = registered_model_name
        try:
            self.conversion = qat_log.frozen(self, log, example_inputs, config or Onnx(dynamic_shapes=BATCH), judged)
        except BaseException as error:
            log.abort(error)
            self._failure = error
            raise
        result, self._frozen = log.finish(), True
        return result

    @contextmanager
    def lasting(self) -> Iterator[None]:
        """Watches while the loop runs; an interrupted training that left a checkpoint can be gone on with."""
        try:
            with self.watch.watching():
                yield
        except BaseException as error:
            self._interrupt(error)
            raise
        if not self._frozen:
            write.end(self.log.place, failed=False)

    def resume(self, state: checkpoint.State, tensors: checkpoint.Tensors) -> None:
        """Takes up an interrupted training: its weights, metrics, and what was seen and told."""
        self.model.load_state_dict(checkpoint.part(tensors, checkpoint.MODEL))
        self.metrics = [{name: nan if value is None else value for name, value in one.items()} for one in state.metrics]
        self.watch.earlier = [structure(group, Group, "parameter group") for group in state.groups]
        self.sessions = [*state.sessions, *self.sessions]
        self.told.data = self.told.data or state.told["data"]
        self._interrupted, self._saved = (state, tensors), True
        checkpoint.restore_generators(tensors)

    def _restore_scheduler(self, scheduler: Any) -> None:
        number, kept = len(self._schedulers), [] if self._interrupted is None else self._interrupted[0].schedulers
        if number < len(kept):
            scheduler.load_state_dict({**scheduler.state_dict(), **kept[number]})

    def _interrupt(self, error: BaseException) -> None:
        if self._frozen or error is self._failure:
            return
        if not self._saved:
            self.log.abort(error)
            return
        words = "log %s was interrupted after epoch %d; resume=True goes on from %s"
        _logger.warning(words, self.log_id, self.epochs, self._folder)
        write.end(self.log.place, failed=True)

    def _state(self, optimizers: list[Json]) -> checkpoint.State:
        start = {"before": unstructure(self.begun.before), "facts": unstructure(self.begun.facts), "call": self.begun.call}
        return checkpoint.State(
            checkpoint.FORMAT,
            self.run_id,
            self.log_id,
            self.handed.base.sha256,
            nncf_training.configuration(self.model),
            asked_json(self.handed.asked, learn=self.learn),
            start,
            {"data": self.told.data},
            [{name: value if isfinite(value) else None for name, value in numbers.items()} for numbers in self.metrics],
            [unstructure(group) for group in self.watch.groups],
            self.sessions,
            optimizers,
            [checkpoint.plain_state(scheduler) for scheduler in self._schedulers],
        )
