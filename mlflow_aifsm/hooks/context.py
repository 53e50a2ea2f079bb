"""Context managers, and decorators, for a conversion or an optimization that runs elsewhere. The verbs are written on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlflow_aifsm import identity, lineage
from mlflow_aifsm.capture.environment import package_fact, packages
from mlflow_aifsm.facts import captured, not_recorded
from mlflow_aifsm.hooks.external import PREFIXES, ExternalRecording
from mlflow_aifsm.hooks.inside import held
from mlflow_aifsm.hooks.recorded import Recorded
from mlflow_aifsm.lineage import VerifiedModel
from mlflow_aifsm.opening import opened


def record_conversion(*, verified_model: str | VerifiedModel | None = None, converter: str = "", **where: Any) -> Recorded:
    """Records what happens in its body, or in each call of the function it decorates, as a Model Conversion Log.

    The body says what went in with ``log.read(path)``, what did the work with ``log.script(path_or_command)`` and
    ``log.packages(interpreter)``, and hands over what it made with ``log.output(path)``; ``log.declare(field, value, by)``
    fills what nothing else tells. A body that raises is logged as failed; its exception goes on.

    As a decorator it gives the recording to the function's parameter ``log``; a function without one hands over the file that
    it returns.

    Args:
        verified_model: URI of the verified learning model, or its id ``<Model_ID>_<version>`` where it is not in MLflow. If
            None that of the settings, ``aifsm.toml`` or ``MLFLOW_AIFSM_VERIFIED_MODEL``.
        converter: Name of the converting package, ``tf2onnx`` for instance; its version and dependencies are captured.
        **where: ``responsible``, ``log_id``, ``run_id``, ``nested``, ``registered_model_name`` as in ``mlflow_aifsm.freeze``.

    Returns:
        A context manager that yields the recording, whose ``result`` holds the outcome after the body; or a decorator.

    Raises:
        ConfigError: On entry, if the model of the settings does not exist.
        NotFoundError: On entry, if the model or the run does not exist.
        TrackingError: If MLflow refuses; what was made is then kept on disk.

    Example:
        >>> with record_conversion(verified_model="detector_4", converter="tf2onnx") as log:  # doctest: +SKIP
        ...     log.read("detector.h5")
        ...     log.output(convert("detector.h5"))
    """
    return Recorded(lambda: _recorded("conversion", verified_model, where, converter))


def record_optimization(
    *, verified_model: str | VerifiedModel | None = None, optimizer: str = "", input_id: str = "", **where: Any
) -> Recorded:
    """Records what happens in its body as a Model Optimization Log; the counterpart of ``record_conversion``.

    Args:
        verified_model: URI or id of the verified learning model; that of the settings if None.
        optimizer: Name of the optimizing package.
        input_id: Id of the conversion that made the input, if one did.
        **where: ``responsible``, ``log_id``, ``run_id``, ``nested``, ``registered_model_name`` as in ``mlflow_aifsm.quantize``.

    Returns:
        A context manager that yields the recording, whose ``result`` holds the outcome after the body; or a decorator.

    Raises:
        NotFoundError: On entry, if the model or the run does not exist.
        TrackingError: If MLflow refuses; what was made is then kept on disk.
    """
    return Recorded(lambda: _recorded("optimization", verified_model, {**where, "input_id": input_id}, optimizer))


@contextmanager
def _recorded(
    kind: str, verified_model: str | VerifiedModel | None, where: dict[str, Any], tool: str
) -> Iterator[ExternalRecording]:
    given = verified_model if isinstance(verified_model, VerifiedModel) else lineage.named(verified_model)
    model = given or lineage.of_project()
    log = ExternalRecording.of(opened(kind, model, **where), tool, model)
    with held():
        try:
            _begin(log, model)
            yield log
        except BaseException as error:
            log.abort(error)
            raise
        log.finish()


def _begin(log: ExternalRecording, model: VerifiedModel | None) -> None:
    """What is known before the work: the verified model, and the tool."""
    if log.template.log == "conversion" and model is not None and model.sha256:
        log.input(model.files, model.sha256, model.model_id)
        log.add(*lineage.training_facts(model))
        log.add(*filter(None, [identity.verified(model)]))
    _tool(log, log.tool, PREFIXES[log.template.log])


def _tool(log: ExternalRecording, package: str, prefix: str) -> None:
    """What is known of a tool that is only named: version and dependencies where it is installed, its name in any case."""
    if not package:
        return
    found = packages([package])
    if package in found:
        log.add(captured(f"{prefix}.framework", f"{package} {found[package]}", source="installed packages"))
        log.add(package_fact(f"{prefix}.packages", [package]))
    else:
        reason = f"{package} was named; it is not installed here, so its version is not known"
        log.add(not_recorded(f"{prefix}.framework", reason), not_recorded(f"{prefix}.packages", reason))
    text = f"{package}; its arguments were not seen. Called from {log.source.text}"
    log.add(captured(f"{prefix}.call", text, source="the caller", short=package))
