"""``quantize``: a frozen model becomes an integer one, with its Model Optimization Log."""

from __future__ import annotations

from typing import Any

from mlflow_aifsm.operations import support
from mlflow_aifsm.operations.optimization import steps_on
from mlflow_aifsm.operations.quantization import Quantization, Static
from mlflow_aifsm.operations.start import Freezing, started
from mlflow_aifsm.result import Result
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.verification.criterion import Verification


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
    freezing = Freezing(example_inputs, verified_model, verification, where)
    start = started(model, samples, freezing, live=False)
    if start.path is not None:
        support.check_model(start.path, asked)
    with steps_on(start, freezing, log_id=log_id, registered_model_name=registered_model_name) as steps:
        steps.quantize(samples, asked)
    return steps.result
