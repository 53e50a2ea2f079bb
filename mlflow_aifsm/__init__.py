"""Model Conversion Log and Model Optimization Log of AI-FSM for models in MLflow: the log says what the file is.

A trained model becomes a frozen one, a frozen one an integer one; each step is measured on the delivered file, verified on
held-out data, and logged in the MLflow run that is active, with the document that an assessor reads:

    import mlflow
    import mlflow_aifsm as aifsm

    with mlflow.start_run() as run:
        frozen = aifsm.freeze("models:/digits/1", verification=aifsm.Verification(images, labels))
        int8 = aifsm.quantize(frozen, aifsm.Data(others, name="calibration"), verification=aifsm.Verification(images, labels))

    print(frozen)                            # ten lines: what was made, how complete its log is, what was found
    aifsm.render_report(run.info.run_id)     # or: mlflow-aifsm report RUN_ID

Every field of a log says how it is known (``State``): measured on the file, captured while it happened, declared by a person,
not applicable with the reason, or not recorded with the line that would fill it. What is wrong is a ``Finding``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_aifsm.audit import load_record
    from mlflow_aifsm.autologging.switch import autolog
    from mlflow_aifsm.capture.training import Training
    from mlflow_aifsm.comparison.comparing import compare
    from mlflow_aifsm.comparison.searching import search_logs
    from mlflow_aifsm.errors import AifsmError
    from mlflow_aifsm.facts import Finding, State, Value
    from mlflow_aifsm.flavor import load_model, log_model, save_model
    from mlflow_aifsm.hooks.context import record_conversion, record_optimization
    from mlflow_aifsm.operations.configs import Onnx, Pt2
    from mlflow_aifsm.operations.freeze import freeze
    from mlflow_aifsm.operations.optimization import optimization
    from mlflow_aifsm.operations.prune import prune
    from mlflow_aifsm.operations.pruning import FineTuning, Gradient, Magnitude
    from mlflow_aifsm.operations.qat import quantization_aware_training
    from mlflow_aifsm.operations.qat_session import QuantizationAwareTraining
    from mlflow_aifsm.operations.quantization import NNCF, ORT, Dynamic, Static, WeightOnly
    from mlflow_aifsm.operations.quantize import quantize
    from mlflow_aifsm.record import Entry, Record
    from mlflow_aifsm.rendering import render_report
    from mlflow_aifsm.result import Result
    from mlflow_aifsm.review import declare
    from mlflow_aifsm.samples import Data
    from mlflow_aifsm.verification.criterion import Verification

_PLACES = {
    "audit": ("load_record",),
    "autologging.switch": ("autolog",),
    "capture.training": ("Training",),
    "comparison.comparing": ("compare",),
    "comparison.searching": ("search_logs",),
    "errors": ("AifsmError",),
    "facts": ("Finding", "State", "Value"),
    "flavor": ("load_model", "log_model", "save_model"),
    "hooks.context": ("record_conversion", "record_optimization"),
    "operations.configs": ("Onnx", "Pt2"),
    "operations.freeze": ("freeze",),
    "operations.optimization": ("optimization",),
    "operations.prune": ("prune",),
    "operations.pruning": ("FineTuning", "Gradient", "Magnitude"),
    "operations.qat": ("quantization_aware_training",),
    "operations.qat_session": ("QuantizationAwareTraining",),
    "operations.quantization": ("NNCF", "ORT", "Dynamic", "Static", "WeightOnly"),
    "operations.quantize": ("quantize",),
    "record": ("Entry", "Record"),
    "rendering": ("render_report",),
    "result": ("Result",),
    "review": ("declare",),
    "samples": ("Data",),
    "verification.criterion": ("Verification",),
}
_MODULES = {name: f"{__name__}.{module}" for module, names in _PLACES.items() for name in names}

__all__ = [
    "NNCF",
    "ORT",
    "AifsmError",
    "Data",
    "Dynamic",
    "Entry",
    "Finding",
    "FineTuning",
    "Gradient",
    "Magnitude",
    "Onnx",
    "Pt2",
    "QuantizationAwareTraining",
    "Record",
    "Result",
    "State",
    "Static",
    "Training",
    "Value",
    "Verification",
    "WeightOnly",
    "autolog",
    "compare",
    "declare",
    "freeze",
    "load_model",
    "load_record",
    "log_model",
    "optimization",
    "prune",
    "quantization_aware_training",
    "quantize",
    "record_conversion",
    "record_optimization",
    "render_report",
    "save_model",
    "search_logs",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that ``import mlflow_aifsm`` imports no framework."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
