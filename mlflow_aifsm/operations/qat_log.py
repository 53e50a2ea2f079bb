"""The two logs of a trained integer file, filled from the training and from the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mlflow_aifsm.backends import nncf_training
from mlflow_aifsm.capture.environment import package_fact
from mlflow_aifsm.facts import Fact, captured
from mlflow_aifsm.opening import NAMED
from mlflow_aifsm.operations import qat_facts, rows
from mlflow_aifsm.operations.configs import Onnx
from mlflow_aifsm.operations.found import looked_up
from mlflow_aifsm.operations.outcome import Outcome
from mlflow_aifsm.operations.qat_agreement import Made, agreement_fact, float_layers_fact
from mlflow_aifsm.operations.qat_freeze import (
    check_fits,
    converted,
    float_file,
    made_file,
    quantized_of,
    trained_fact,
    weights_changed,
)
from mlflow_aifsm.operations.qat_learned import TABLE, learned, learned_fact
from mlflow_aifsm.operations.qat_start import Given
from mlflow_aifsm.operations.verbatim import nncf_bias
from mlflow_aifsm.recording import Recording
from mlflow_aifsm.result import Result
from mlflow_aifsm.verification.criterion import OPTIMIZATION, Verification
from mlflow_aifsm.verification.layerwise import layer_facts, layer_sqnr

if TYPE_CHECKING:
    from mlflow_aifsm.operations.qat_session import QuantizationAwareTraining

PACKAGES = ("nncf", "torch", "onnx", "onnxscript")


@dataclass(frozen=True, slots=True)
class Judged:
    """How a frozen model is judged.

    Attributes:
        verification: Held-out data and limits, the model before training being the reference.
        replication: What the file must show beside the trained model; None for the default on the same data.
        epsilon_steps: Largest difference of a code, in quantization steps.
        conversion_log_id: Id of the conversion log.
    """

    verification: Verification | None
    replication: Verification | None
    epsilon_steps: int
    conversion_log_id: str | None

    @property
    def beside_trained(self) -> Verification | None:
        """The verification of the conversion."""
        if self.replication is not None or self.verification is None:
            return self.replication
        return replace(self.verification, limits=None, epsilon=None, reason=None, latency=False, outputs=None, runtime="")


def frozen(training: QuantizationAwareTraining, log: Recording, example_inputs: Any, asked: Onnx, judged: Judged) -> Result:
    """Makes the integer file, finishes its conversion log, and fills the optimization log that the training began.

    File and held-out data are tried before anything is logged: a conversion log is written for a file that stands.

    Returns:
        The result of the conversion.
    """
    handed = training.handed
    made = made_file(training.model, handed, example_inputs, asked)
    for one in filter(None, (judged.verification, judged.replication)):
        check_fits(made, one)
    where = {"run_id": training.run_id, "log_id": judged.conversion_log_id}
    who = log.facts.by_name["log.responsible"]
    # settings and account are asked once more, so that the log names them as the source and no argument that nobody gave
    where |= {"responsible": who.value.text} if who.source.origin == NAMED else {}
    conversion = converted(made, asked, handed.verified, judged.beside_trained, judged.epsilon_steps, where)
    _inputs(training, log)
    _fill(training, log, made, judged)
    if judged.verification is not None:
        log.verify(float_file(handed, asked), judged.verification, OPTIMIZATION)
    return conversion


def _inputs(training: QuantizationAwareTraining, log: Recording) -> None:
    handed = training.handed
    if handed.origin is not None:
        log.input(handed.origin.files, handed.origin.sha256, handed.origin.model_id)
    else:
        log.input((), handed.base.sha256)
    if handed.samples is not None:
        used = handed.samples.first(handed.asked.subset_size)
        log.data(used.name, used.digest, "calibration", used.sample_digests)
    if training.told.data:
        log.data(training.told.data["name"], training.told.data["sha256"], "training", training.told.seen)


def _fill(training: QuantizationAwareTraining, log: Recording, made: Made, judged: Judged) -> None:
    begun = training.begun
    done = quantized_of(made, begun)
    log.call("quantization.call", done.function, done.arguments, done.shown, None, "Quantization that training began with")
    outcome = Outcome(done, f"NNCF {version('nncf')}", PACKAGES, begun.facts, reasons=made.file.reasons)
    log.add(captured("quantization.framework", outcome.framework, version("nncf"), source="installed packages"))
    log.add(package_fact("quantization.packages", PACKAGES), *begun.facts, nncf_bias(done))
    log.output(made.file.path, against=made.file.float_path)
    _size(log, made)
    _noise(log, made, training.handed)
    log.add(*looked_up(log.facts, made.delivered, outcome, log.table("quantizers")), *rows.not_pruned(log.facts))
    found = learned(made.file, made.delivered, begun.before, made.held, (begun.state, made.state), training.watch)
    log.tables({TABLE: [one.row for one in found]})
    log.add(learned_fact(found, training.learn, made.delivered.source), *_told(training, made), *_seen(training, made))
    log.add(agreement_fact(made.agreement, judged.epsilon_steps), float_layers_fact(made))


def _size(log: Recording, made: Made) -> None:
    after, before = (sum(file.size for file in files) for files in (made.delivered.files, made.float_files))
    log.add(captured("size.ratio", f"{after / before:.2f} of {before:,} bytes", after / before, source="both files"))


def _noise(log: Recording, made: Made, handed: Given) -> None:
    """What codes cost at each tensor, beside the trained weights without quantizers, on calibration samples."""
    found = [] if handed.samples is None else layer_sqnr(made.file.path, made.file.float_path, handed.samples)
    if found:
        log.tables({"layers": found})
        log.add(layer_facts(found))


def _told(training: QuantizationAwareTraining, made: Made) -> Iterator[Fact]:
    """What the training loop told."""
    begun, handed, watch = training.begun, training.handed, training.watch
    architecture = next(fact.value.brief for fact in handed.base.facts if fact.name == "model.architecture")
    yield qat_facts.base_fact(architecture, handed.base.sha256, handed.verified, training.base)
    yield qat_facts.epochs_fact(training.metrics, watch.steps, len(training.sessions))
    yield qat_facts.metrics_fact(training.metrics)
    yield qat_facts.schedule_fact(watch.groups, training.told.schedules)
    yield qat_facts.data_fact(training.told.data)
    yield trained_fact(made, begun, training.epochs, watch.steps)


def _seen(training: QuantizationAwareTraining, made: Made) -> Iterator[Fact]:
    """What was seen of the training."""
    begun, watch = training.begun, training.watch
    shown = ", ".join(f"{name}={value!r}" for name, value in begun.call["shown"].items())
    method = next(fact.value.brief for fact in begun.facts if fact.name == "calibration.method")
    changed = weights_changed(begun.state, made.state)
    yield qat_facts.ranges_fact(training.learn, f"nncf.quantize({shown})", f"ranges: {method}", nncf_training.operations())
    yield qat_facts.optimizer_fact(watch.groups, training.told.optimizers, changed)
    yield qat_facts.seeds_fact(training.sessions)
    layers = [name.removesuffix(".running_mean") for name in begun.state if name.endswith(".running_mean")]
    moved = [name for name in layers if not begun.state[f"{name}.running_mean"].equal(made.state[f"{name}.running_mean"])]
    folded = len(layers) - sum(node.op_type == "BatchNormalization" for node in made.delivered.nodes)
    yield qat_facts.batch_normalization_fact(moved, layers, folded)
