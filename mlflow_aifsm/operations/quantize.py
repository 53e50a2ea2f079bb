"""``quantize``: a frozen model becomes an integer one, with its Model Optimization Log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from mlflow_aifsm import lineage, scratch
from mlflow_aifsm.backends import nncf
from mlflow_aifsm.backends.nncf import Quantized
from mlflow_aifsm.capture.environment import package_fact
from mlflow_aifsm.capture.onnx_graph import file_set
from mlflow_aifsm.digests import FileDigest, set_digest
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, Finding, State, captured, not_applicable
from mlflow_aifsm.flavor import EXTRAS
from mlflow_aifsm.hooks.context import record_optimization
from mlflow_aifsm.lineage import VerifiedModel
from mlflow_aifsm.operations.configs import FOR_ONNXRUNTIME, NNCF
from mlflow_aifsm.record import Record
from mlflow_aifsm.recording import Recording
from mlflow_aifsm.result import Result
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.tracking.keys import RECORD
from mlflow_aifsm.verification.criterion import OPTIMIZATION, Verification
from mlflow_aifsm.verification.session import OnnxSession

PACKAGES = ("nncf", "onnx", "onnxruntime")
"""What NNCF's ONNX backend depends on directly."""


@dataclass(frozen=True, slots=True)
class _Input:
    """The float file, what it was made of, and its place in the chain.

    Attributes:
        path: The file.
        files: Its file set.
        model: The verified learning model at the beginning of the chain.
        source_uri: The registered version or logged model that the file is; empty for a file of nobody's.
        model_id: Its logged model.
        input_id: The conversion that made it.
    """

    path: Path
    files: tuple[FileDigest, ...]
    model: VerifiedModel | None
    source_uri: str = ""
    model_id: str = ""
    input_id: str = ""


def quantize(
    model: Any,
    data: Any,
    config: NNCF | None = None,
    *,
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
        model: Result of ``freeze``, path of an ONNX file, its ``models:/`` or ``runs:/`` URI, or an ``onnx.ModelProto``.
        data: Calibration data: anything that ``Data`` takes, or a ``Data``; not the verification data.
        config: What to ask of NNCF; defaults that ONNX Runtime really runs in integers if None.
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
        OptimizationError: If NNCF refuses; the run then holds a log that says so.
        TrackingError: If MLflow refuses; quantized file and record are then kept on disk.

    Example:
        >>> int8 = quantize(frozen, Data(images, name="calibration"))  # doctest: +SKIP
        >>> int8.record.entries["aifsm.ptq.precision"].value.brief  # doctest: +SKIP
        'int8'
    """
    given, samples = _input(model, verified_model), Samples.of(data)
    session = OnnxSession(given.path)
    with record_optimization(
        verified_model=given.model,
        input_id=given.input_id,
        responsible=responsible,
        log_id=log_id,
        run_id=run_id,
        nested=nested,
        registered_model_name=registered_model_name,
    ) as log:
        log.source_uri = given.source_uri
        log.input(given.files, set_digest(given.files), given.model_id)
        _optimize(log, given.path, session, samples, config or FOR_ONNXRUNTIME)
        if verification is not None:
            log.verify(given.path, verification, OPTIMIZATION)
    return log.finished


def _input(model: Any, verified_model: str | None) -> _Input:
    verified = lineage.named(verified_model)
    if isinstance(model, Result):
        return _from_result(model, verified)
    if isinstance(model, onnx.ModelProto):
        path = scratch.folder() / "model.onnx"
        onnx.save(model, path)
        return _Input(path, file_set(path), verified)
    if isinstance(model, str) and model.startswith(("models:/", "runs:/")):
        return _from_uri(lineage.resolve(model), verified)
    if isinstance(model, str | Path) and Path(model).is_file():
        return _Input(Path(model), file_set(Path(model)), verified)
    expected = "the result of freeze, the path or URI of an ONNX model, or an onnx.ModelProto"
    raise InputError("cannot quantize this model", got=repr(model)[:80], expected=expected)


def _from_result(result: Result, verified: VerifiedModel | None) -> _Input:
    if result.path is None:
        raise InputError(f"log {result.log_id} delivered no file", expected="a result with a frozen file")
    model = verified or VerifiedModel("", result.record.subject)
    made, model_id = result.version_uri or result.model_uri, result.model_uri.removeprefix("models:/")
    return _Input(result.path, file_set(result.path), model, made, model_id, result.log_id)


def _from_uri(found: VerifiedModel, verified: VerifiedModel | None) -> _Input:
    entry = found.flavors.get("onnx")
    if entry is None or found.folder is None:
        raise InputError(
            f"model {found.uri}", got=f"flavors {', '.join(found.flavors)}", expected="a model of flavor onnx; freeze it first"
        )
    path = found.folder / str(entry["data"])
    conversion = str(found.flavors.get("aifsm", {}).get("log_id", ""))
    model = verified or VerifiedModel("" if conversion else found.uri, _subject(found))
    return _Input(path, file_set(path), model, found.uri, found.model_id, conversion)


def _subject(found: VerifiedModel) -> str:
    """The verified learning model that a frozen model was made of, as its record says; its own id where it has no record."""
    record = found.folder / EXTRAS / RECORD if found.folder else None
    return Record.from_json(record.read_bytes()).subject if record and record.is_file() else found.id


def _optimize(log: Recording, path: Path, session: OnnxSession, samples: Samples, asked: NNCF) -> None:
    size = session.fixed_batch or 1
    samples = samples.first(-(-asked.subset_size // size) * size)
    keywords = {setting.name: getattr(asked, setting.name) for setting in fields(asked)}
    keywords["subset_size"] = -(-asked.subset_size // size)  # NNCF counts batches
    done = nncf.quantize(onnx.load(path), _Calibration(samples, session), keywords)
    delivered = scratch.folder() / "model.onnx"
    onnx.save(done.model, delivered)
    log.call("quantization.call", "nncf.quantize", done.arguments, nncf.differing(done.arguments))
    log.add(captured("quantization.framework", f"NNCF {version('nncf')}", version("nncf"), source="installed packages"))
    log.add(package_fact("quantization.packages", PACKAGES), _calibration(done, samples, asked.subset_size, size))
    log.data(samples.name, samples.digest, "calibration", samples.sample_digests)
    before = sum(file.size for file in file_set(path))
    measured = log.output(delivered, against=path)
    after = sum(file.size for file in measured.files)
    log.add(captured("size.ratio", f"{after / before:.2f} of {before:,} bytes", after / before, source="both files"))
    log.add(*_untouched(log))


@dataclass(frozen=True, slots=True)
class _Calibration:
    """Samples as NNCF reads them: one at a time, so that its per-sample statistics are per sample, whatever the batches were.

    A model with a fixed batch axis gets batches of that length.
    """

    samples: Samples
    session: OnnxSession

    def __iter__(self) -> Iterator[dict[str, Any]]:
        names = [spec.name for spec in self.session.inputs]
        size = self.session.fixed_batch or 1
        for batch, _ in self.samples.batches(size, names, self.session.ranks):
            if len(next(iter(batch.values()))) == size:
                yield self.session.fit(batch)


def _calibration(done: Quantized, samples: Samples, asked: int, size: int) -> Fact:
    words, short = nncf.estimator(done.arguments)
    consumed = done.consumed * size
    fewer = consumed < asked
    finding = Finding(
        "fewer_calibration_samples",
        asked=f"{asked} samples",
        measured=f"{consumed} samples",
        effect="ranges rest on less data than was asked for",
    )
    text = f"{words}; {consumed:,} samples read ({asked:,} asked for); read of the data: {samples.describe()}"
    data = {"method": short, "asked": asked, "consumed": consumed, "data": samples.name, "sha256": samples.digest}
    source = "arguments of nncf.quantize, and the samples it read"
    return captured("calibration.method", text, data, source=source, short=short, findings=[finding] if fewer else [])


def _untouched(log: Recording) -> list[Fact]:
    """Rows of the template that this operation did not touch, each with the measurement that shows it."""
    zeros = log.facts.get("zeros.ratio")
    seen = zeros.value.text if zeros and zeros.state is State.MEASURED else "zeros were not counted"
    pruning = ("pruning.framework", "pruning.packages", "pruning.criteria", "pruning.call")
    training = {
        "recovery.qat": "no training step ran in this operation: nncf.quantize only reads calibration samples",
        "recovery.learned": "no scale was trained in this operation: all come from calibration",
    }
    return [
        *(not_applicable(name, f"no pruning step ran; {seen}", source="this operation") for name in pruning),
        *(not_applicable(name, reason, source="call of nncf.quantize") for name, reason in training.items()),
    ]
