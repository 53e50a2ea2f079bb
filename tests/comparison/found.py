"""Logs as a search finds them, without any store."""

from __future__ import annotations

from mlflow_aifsm.tracking.search import FoundLog

FROZEN, DATA, RUNTIME, HOST = "f" * 64, "d" * 64, "ONNX Runtime 1.31.1, CPUExecutionProvider", "AMD EPYC, 2 cores, Linux x86_64"
WHOLE = {"status": "complete", "record_sha256": "r" * 64, "date": "2026-01-02T03:04:05+00:00"}


def conversion(name: str = "float", **changed: str) -> FoundLog:
    """A conversion of the verified model ``digits_1`` that delivered ``FROZEN``, verified with labels."""
    tags = {**WHOLE, "log_id": f"id-{name}", "input_id": "digits_1", "input_sha256": "a" * 64, "output_sha256": FROZEN}
    tags |= {"data": "held out", "data_sha256": DATA, "runtime": RUNTIME, "host": HOST, "verification": "verified on this host"}
    numbers = {"accuracy": 0.95, "size": 4000.0, "accuracy_drop": 0.0}
    categories = {"conversion.opset": "20", "conversion.precision": "float32"}
    return FoundLog("conversion", name, name, "digits", {**tags, **changed}, categories, numbers)


def optimization(
    name: str, accuracy: float | None = 0.9, size: float = 1000.0, speedup: float | None = None, **changed: str
) -> FoundLog:
    """An optimization of ``FROZEN``, with these numbers where they are measured; ``changed`` are tags."""
    tags = {
        **conversion().tags,
        "log_id": f"id-{name}",
        "input_id": "id-float",
        "input_sha256": FROZEN,
        "output_sha256": name.ljust(64, "0"),
    }
    measured = {"accuracy": accuracy, "size": size, "speedup": speedup}
    numbers = {key: value for key, value in measured.items() if value is not None}
    categories = {"ptq.precision": "int8 weights", "calibration.method": name}
    return FoundLog("optimization", name, name, "digits", {**tags, **changed}, categories, numbers)


def without(log: FoundLog, *tags: str) -> FoundLog:
    """The log without some of its tags."""
    kept = {name: text for name, text in log.tags.items() if name not in tags}
    return FoundLog(log.log, log.run_id, log.run_name, log.experiment, kept, log.categories, log.numbers)
