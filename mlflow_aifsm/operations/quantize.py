"""``quantize``: a frozen model becomes an integer one, with its Model Optimization Log."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import onnx

from mlflow_aifsm.backends.graph_rewrites import named
from mlflow_aifsm.backends.quantized import plain, saved
from mlflow_aifsm.capture.environment import package_fact
from mlflow_aifsm.capture.onnx_graph import file_set, opened
from mlflow_aifsm.digests import set_digest
from mlflow_aifsm.facts import Fact, Json, State, captured, not_applicable
from mlflow_aifsm.hooks.context import record_optimization
from mlflow_aifsm.operations import float_model, support
from mlflow_aifsm.operations.configs import BATCH, Onnx
from mlflow_aifsm.operations.found import looked_up
from mlflow_aifsm.operations.outcome import Outcome, Task
from mlflow_aifsm.operations.quantization import NNCF, ORT, Quantization, Static
from mlflow_aifsm.recording import Recording
from mlflow_aifsm.result import Result
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.verification.criterion import OPTIMIZATION, Verification
from mlflow_aifsm.verification.layerwise import layer_facts, layer_sqnr
from mlflow_aifsm.verification.session import OnnxSession


def quantize(
    model: Any,
    data: Any = None,
    config: Quantization | None = None,
    *,
    example_inputs: Any = None,
    verified_model: str | None = None,
    verification: Verification | None = None,
    responsible: str | None = None,
    log_id: str | None = None,
    run_id: str | None = None,
    nested: bool | None = None,
    registered_model_name: str | None = None,
) -> Result:
    """Quantizes a frozen ONNX model after training, measures what the file holds, and logs the Model Optimization Log (AI-FSM).

    An active MLflow run is joined and not ended: freeze and quantize in one run give one row in the UI.

    Args:
        model: Result of ``freeze``, path of an ONNX file, its ``models:/`` or ``runs:/`` URI, or an ``onnx.ModelProto``; or a
            PyTorch module, or the URI of one, which is frozen to ONNX first, with its own Model Conversion Log in the same run.
        data: Calibration data: anything that ``Data`` takes, or a ``Data``; not the verification data. None for a
            quantization that needs none.
        config: ``Static``, ``Dynamic``, ``WeightOnly``, ``NNCF`` or ``ORT``; ``Static()``, which ONNX Runtime really runs in
            integers, if None.
        example_inputs: What a PyTorch model can be called with, as in ``freeze``; the first calibration samples if None.
        verified_model: URI or id of the verified learning model, where ``model`` does not tell.
        verification: Held-out data and limits; the float model is the reference.
        responsible: The person who optimizes.
        log_id: Id of the log; a log of the same id is superseded. Derived from model and run if None.
        run_id: Run to write to, finished or not.
        nested: Whether to write to a child run; None for where the run holds an optimization log already.
        registered_model_name: Name to register the quantized model under.

    Returns:
        The quantized file, where it was logged, and the record.

    Raises:
        InputError: If model, data or config do not fit.
        NotFoundError: If the model or the run does not exist.
        OptimizationError: If the quantizer refuses; the run then holds a log that says so.
        TrackingError: If MLflow refuses; quantized file and record are then kept on disk.

    Example:
        >>> int8 = quantize(frozen, Data(images, name="calibration"))  # doctest: +SKIP
        >>> int8.record.entries["aifsm.ptq.precision"].value.brief  # doctest: +SKIP
        'int8'
    """
    asked = config or Static()
    support.check(asked)
    support.check_data(asked, given=data is not None)
    samples = None if data is None else Samples.of(data)
    where: dict[str, Any] = {"responsible": responsible, "run_id": run_id, "nested": nested}
    if float_model.is_torch(model):
        model = _frozen(model, samples, example_inputs, verified_model, verification, where)
        where |= {"run_id": model.run_id, "nested": None}
    given = float_model.opened(model, verified_model)
    support.check_model(given.path, asked)
    with record_optimization(
        verified_model=given.model,
        input_id=given.input_id,
        log_id=log_id,
        registered_model_name=registered_model_name,
        **where,
    ) as log:
        log.source_uri = given.source_uri
        log.input(given.files, set_digest(given.files), given.model_id)
        _optimize(log, given.path, samples, asked)
        if verification is not None:
            log.verify(given.path, verification, OPTIMIZATION)
            _compare_layers(log, given.path, verification)
    return log.finished


def _compare_layers(log: Recording, before: Path, verification: Verification) -> None:
    """SQNR at each quantized tensor; what cannot be compared costs a table, not the log."""
    if log.delivered is None or log.verification is None or not log.verification.samples:
        return
    try:
        rows = layer_sqnr(log.delivered, before, Samples.of(verification.described))
    except Exception as error:  # noqa: BLE001 -- runtimes raise anything
        log.note(f"Layers were not compared: {type(error).__name__}: {' '.join(str(error).split())}.")
        return
    if rows:
        log.tables({"layers": rows})
        log.add(layer_facts(rows))


def _frozen(
    model: Any,
    samples: Samples | None,
    example_inputs: Any,
    verified_model: str | None,
    verification: Verification | None,
    where: dict[str, Any],
) -> Result:
    """A PyTorch model frozen with a dynamic batch; a verification judges the freeze by the freeze's own default criterion."""
    # a freeze imports PyTorch, which an ONNX file does not need
    from mlflow_aifsm.operations.freeze import freeze

    given = float_model.example(samples, model) if example_inputs is None and not isinstance(model, str) else example_inputs
    judged = None if verification is None else replace(verification, limits=None, reason=None, latency=False)
    return freeze(model, given, Onnx(dynamic_shapes=BATCH), verified_model=verified_model, verification=judged, **where)


def _optimize(log: Recording, given: Path, samples: Samples | None, config: Quantization) -> None:
    session = OnnxSession(given)
    path = _prepared(given)
    asked = getattr(config, "subset_size", 0)
    used = None if samples is None else _whole(samples.first(asked) if asked else samples, session.fixed_batch or 1)
    done = support.method(config)(Task(path, used, asked or (used.count if used else 0)), config)
    log.call(
        "quantization.call",
        done.quantized.function,
        done.quantized.arguments,
        done.quantized.shown,
        _replay(config),
        _told(config),
    )
    log.add(captured("quantization.framework", done.framework, done.framework.split()[-1], source="installed packages"))
    log.add(package_fact("quantization.packages", done.packages), *done.facts)
    if used is not None:
        log.data(used.name, used.digest, "calibration", used.sample_digests)
    before = sum(file.size for file in file_set(given))
    measured = log.output(done.quantized.path, against=given)
    after = sum(file.size for file in measured.files)
    log.add(captured("size.ratio", f"{after / before:.2f} of {before:,} bytes", after / before, source="both files"))
    log.note(*done.notes)
    log.tables(done.tables)
    log.add(*looked_up(log.facts, opened(done.quantized.path), done, log.table("quantizers")), *_untouched(log, done))


def _whole(samples: Samples, size: int) -> Samples:
    """The samples that fill batches of ``size``, the number that the model fixes: tools drop the rest, or pad it."""
    return samples if size == 1 else samples.first(max(samples.count // size, 1) * size)


def _prepared(path: Path) -> Path:
    """The file with a name for every node; the file itself where all have one."""
    model = onnx.load(path, load_external_data=False)
    return path if all(node.name for node in model.graph.node) else saved(named(onnx.load(path)))


def _replay(config: Quantization) -> dict[str, Json]:
    return {
        "kind": type(config).__name__,
        "settings": {setting.name: plain(getattr(config, setting.name)) for setting in fields(config)},
    }


def _told(config: Quantization) -> str:
    """What was asked, without what is a default; a tool's own keywords tell themselves."""
    if isinstance(config, NNCF | ORT):
        return ""
    usual = type(config)()
    given = {setting.name: getattr(config, setting.name) for setting in fields(config)}
    said = ", ".join(f"{name}={value!r}" for name, value in given.items() if value != getattr(usual, name))
    return f"{type(config).__name__}({said})"


def _untouched(log: Recording, done: Outcome) -> list[Fact]:
    """Rows of the template that this operation did not touch, each with the measurement that shows it."""
    zeros = log.facts.get("zeros.ratio")
    seen = zeros.value.text if zeros and zeros.state is State.MEASURED else "zeros were not counted"
    pruning = ("pruning.framework", "pruning.packages", "pruning.criteria", "pruning.call")
    training = {
        "recovery.qat": "no training step ran in this operation: the model was quantized after training",
        "recovery.learned": "no scale was trained in this operation",
    }
    return [
        *(not_applicable(name, f"no pruning step ran; {seen}", source="this operation") for name in pruning),
        *(not_applicable(name, reason, source=f"call of {done.quantized.function}") for name, reason in training.items()),
    ]
