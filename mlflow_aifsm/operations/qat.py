"""``quantization_aware_training``: the user's own training loop around a fake-quantized model, then its integer file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mlflow_aifsm.backends import nncf_training
from mlflow_aifsm.backends.fake_quantized import Held
from mlflow_aifsm.codec import structure
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact
from mlflow_aifsm.opening import opened
from mlflow_aifsm.operations import qat_checkpoint as checkpoint
from mlflow_aifsm.operations import qat_start
from mlflow_aifsm.operations.qat_checks import resumable
from mlflow_aifsm.operations.qat_facts import Told, data_told
from mlflow_aifsm.operations.qat_session import Base, QuantizationAwareTraining
from mlflow_aifsm.operations.qat_start import Begun, Given
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.tracking.resumed import reopened

READ = 64
"""Training samples that are read at a time for their digest."""
Where = dict[str, Any]
"""``responsible``, ``log_id``, ``run_id`` and ``nested`` of the log."""


@contextmanager
def quantization_aware_training(
    model: Any,
    data: Any = None,
    config: Any = None,
    *,
    learn_scales: bool = True,
    example_inputs: Any = None,
    training_data: Any = None,
    base: Base = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    verified_model: str | None = None,
    responsible: str | None = None,
    log_id: str | None = None,
    run_id: str | None = None,
    nested: bool | None = None,
) -> Iterator[QuantizationAwareTraining]:
    """Quantizes a copy of a PyTorch model for training; the body trains ``qat.model``, ``qat.freeze()`` makes the integer file.

    The copy computes with fake quantizers (Jacob et al. 2018, arXiv 1712.05877): values are rounded to codes and back, and
    gradients pass through. It has the device and the mode, training or evaluation, of the given model, which stays as it is.
    Steps of every ``torch.optim`` optimizer are seen while the block lasts, so that the log has optimizers and learning rates.

    An active MLflow run is joined and not ended, else one is started. The run is claimed for the log at once: a process that
    dies leaves a log that says ``failed``, and ``resume=True`` goes on with the same log in the same run.

    Args:
        model: A ``torch.nn.Module``, or the ``models:/`` or ``runs:/`` URI of one that was saved as a module.
        data: Calibration samples, from which ranges are set before training: anything that ``Data`` takes. None to resume.
        config: ``Static`` or ``NNCF``; ``Static()`` if None. ``Static`` means 8-bit weights by channel and 8-bit activations by
            layer here; its ``ranges`` are where training begins.
        learn_scales: Whether scales, and both ends of asymmetric ranges, are trained with the weights (arXiv 1902.08153), or
            stay those of calibration.
        example_inputs: What the model can be called with, as in ``freeze``; the first calibration samples if None.
        training_data: What the loop trains on, read once for its digest; anything that ``Data`` takes.
        base: Result or id of an earlier log of the model, that of the quantization whose accuracy is to be recovered for
            instance.
        checkpoint: Folder for the state of the training, written by ``qat.epoch()`` and ``qat.save()``.
        resume: Whether to go on with the training in ``checkpoint``.
        verified_model: URI or id of the verified learning model; ``model`` itself where that is a URI.
        responsible: The person who optimizes.
        log_id: Id of the optimization log; derived from model and run if None.
        run_id: Run to write to, finished or not.
        nested: Whether to write to a child run; None for where the run holds an optimization log already.

    Yields:
        The training: ``model``, ``optimizer()``, ``epoch()``, ``save()``, ``callback()``, ``freeze()``.

    Raises:
        InputError: If model, data or config do not fit; nothing was logged then.
        NotFoundError: If the model, the run or the checkpoint does not exist.
        OptimizationError: If NNCF refuses.
        TrackingError: If MLflow cannot be reached.

    Example:
        >>> with quantization_aware_training(model, images) as qat:  # doctest: +SKIP
        ...     for epoch in range(3):
        ...         qat.epoch(accuracy=train(qat.model))
        >>> int8 = qat.freeze(verification=Verification(held_out, labels))  # doctest: +SKIP
    """
    where = {"responsible": responsible, "log_id": log_id, "run_id": run_id, "nested": nested}
    folder = None if checkpoint is None else Path(checkpoint)
    resumed = resumable(folder, resume=resume)
    with _generators_kept():
        handed = qat_start.given(model, data, config, example_inputs, verified_model, resume=resume)
        told = _told(training_data, handed)
    if resumed is not None:
        session = _continued(handed, resumed, learn_scales, base, told, where)
    else:
        session = _started(handed, folder, learn_scales, base, told, where)
    with session.lasting():
        yield session


def _started(
    handed: Given, folder: Path | None, learn: bool, base: Base, told: Told, where: Where
) -> QuantizationAwareTraining:
    with _generators_kept():
        begun = qat_start.begun(handed)
    log = opened("optimization", handed.verified, **where)
    return QuantizationAwareTraining(handed, begun, log, folder, learn, base, told)


def _continued(handed: Given, folder: Path, learn: bool, base: Base, told: Told, where: Where) -> QuantizationAwareTraining:
    """The training in a checkpoint, in the run and with the id that it had."""
    state, tensors = checkpoint.load(folder)
    _check_same(state, handed, learn)
    begun = _begun_before(state, tensors, handed)
    place = reopened("optimization", state.run_id, state.log_id)
    log = opened("optimization", handed.verified, **{**where, "run_id": state.run_id, "log_id": state.log_id})
    log.place = place
    session = QuantizationAwareTraining(handed, begun, log, folder, learn, base, told)
    session.resume(state, tensors)
    return session


def _check_same(state: checkpoint.State, handed: Given, learn: bool) -> None:
    if state.base_sha256 != handed.base.sha256:
        expected = f"the one with sha256 {state.base_sha256}"
        raise InputError("the checkpoint belongs to another model", got=f"sha256 {handed.base.sha256}", expected=expected)
    asked = qat_start.asked_json(handed.asked, learn=learn)
    if state.asked != asked:
        differ = sorted(name for name in asked if asked[name] != state.asked.get(name))
        raise InputError(
            "the interrupted training was asked for otherwise", got=f"other {', '.join(differ)}", remedy="pass the same config"
        )


def _begun_before(state: checkpoint.State, tensors: checkpoint.Tensors, handed: Given) -> Begun:
    return Begun(
        nncf_training.restored(handed.module, state.quantizers),
        structure(state.start["before"], tuple[Held, ...], "quantizers of the checkpoint"),
        checkpoint.part(tensors, checkpoint.CODES),
        checkpoint.part(tensors, checkpoint.BEFORE),
        structure(state.start["facts"], tuple[Fact, ...], "facts of the checkpoint"),
        state.start["call"],
    )


def _told(training_data: Any, handed: Given) -> Told:
    """The training data, read once for their digest; what is read here does not count as a step of the loop."""
    if training_data is None:
        return Told([], [])
    samples = Samples.of(training_data)
    for _ in qat_start.read(samples, handed.base, READ):
        pass
    return Told([], [], data_told(samples), samples.sample_digests)


@contextmanager
def _generators_kept() -> Iterator[None]:
    """What is read and run before training does not move the random generators that the user has seeded."""
    with torch.random.fork_rng():
        yield
