"""How an integer file agrees with the trained module that it was made of, and which of its layers run in float, and why."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_aifsm.backends.fake_quantized import Held
from mlflow_aifsm.backends.integer_agreement import Compared
from mlflow_aifsm.backends.integer_export import IntegerFile
from mlflow_aifsm.capture import float_layers
from mlflow_aifsm.capture.layer_names import module_path
from mlflow_aifsm.capture.onnx_graph import OnnxFile, file_set, node_name
from mlflow_aifsm.digests import FileDigest
from mlflow_aifsm.facts import Fact, Finding, captured, measured, not_recorded
from mlflow_aifsm.operations.qat_facts import counted
from mlflow_aifsm.operations.qat_start import Tensors
from mlflow_aifsm.operations.sources import SourceModel
from mlflow_aifsm.verification import integer_execution

FLOAT_KERNEL = "ONNX Runtime has no kernel on integers for it"
FLOAT_OPERANDS = "its data and its weights are not both quantized"
FUSED = "fused "
"""What ONNX Runtime puts before the name of a layer that it joined with the activation behind it."""


@dataclass(frozen=True, slots=True)
class Made:
    """An integer file, the module it was made of, and how the two agree.

    Attributes:
        source: The trained module in evaluation mode, on the CPU.
        file: The file.
        delivered: The file as it lies on disk.
        held: What the module's quantizers hold.
        state: The module's tensors.
        agreement: How the two agree.
    """

    source: SourceModel
    file: IntegerFile
    delivered: OnnxFile
    held: tuple[Held, ...]
    state: Tensors
    agreement: Compared

    @property
    def float_files(self) -> tuple[FileDigest, ...]:
        """The file of the trained weights without quantizers."""
        return file_set(self.file.float_path)


def agreement_fact(agreement: Compared, epsilon: int) -> Fact:
    """``qat.agreement``: how the file agrees with the trained module, in quantization steps.

    Args:
        agreement: What was compared.
        epsilon: Largest difference of a code that agrees.
    """
    rows = agreement.rows
    if not rows:
        return not_recorded("qat.agreement", "no activation of the file is quantized, so there are no steps to compare in")
    largest, total, different = (
        max(row.largest for row in rows),
        sum(row.codes for row in rows),
        sum(row.different for row in rows),
    )
    each = "the one quantized activation" if len(rows) == 1 else f"each of {len(rows)} quantized activations"
    text = f"Given the trained model's values, {each} of the file has the trained model's codes within "
    text += f"{counted(largest, 'step')} (at most {epsilon} asked); {different:,} of {counted(total, 'code')} "
    text += f"{'differs' if different == 1 else 'differ'}; outputs then differ by at most {agreement.outputs:.2g}; "
    text += counted(agreement.samples, "sample")
    worst = [row.tensor for row in rows if row.largest > epsilon]
    effect = "the file does not compute what was trained"
    missed = Finding(
        "file_not_as_trained",
        asked=f"codes within {epsilon}",
        measured=f"{counted(largest, 'step')} in {', '.join(worst[:5])}",
        effect=effect,
    )
    data = {"largest": largest, "epsilon": epsilon, "different": different, "codes": total, "outputs": agreement.outputs}
    source = "file and trained model, run side by side"
    return captured(
        "qat.agreement", text, data, source=source, short=counted(largest, "step"), findings=[missed] if worst else []
    )


def float_layers_fact(made: Made) -> Fact:
    """``qat.float_layers``: each layer that ONNX Runtime computes in float here, with the reason."""
    scope, found = made.delivered.scopes[0], integer_execution.float_layers(made.delivered.path)
    nodes = {node_name(node): node for node in scope.nodes}
    layers = [name if name in nodes else name.removeprefix(FUSED) for name in found]
    reasons = {name: _reason(made, name) if name in nodes else "a node that ONNX Runtime made" for name in layers}
    if not found:
        return measured(
            "qat.float_layers", "ONNX Runtime computes every layer in integers", {}, source=made.delivered.source, short="none"
        )
    named = [
        f"{module_path(scope, nodes[name]) or name}: {why}" if name in nodes else f"{name}: {why}"
        for name, why in reasons.items()
    ]
    return measured(
        "qat.float_layers",
        f"Computed in float: {'; '.join(named)}",
        reasons,
        source=made.delivered.source,
        short=f"{len(found)}",
    )


def _reason(made: Made, name: str) -> str:
    if name in made.file.reasons:
        return made.file.reasons[name]
    return FLOAT_KERNEL if name in float_layers.integer_layers(made.delivered) else FLOAT_OPERANDS
