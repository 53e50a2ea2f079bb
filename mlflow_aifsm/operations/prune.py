"""``prune``: weights that matter least become zero, with a Model Optimization Log of what the file then holds."""

from __future__ import annotations

from typing import Any

from mlflow_aifsm.operations import prune_file
from mlflow_aifsm.operations.generators import kept
from mlflow_aifsm.operations.optimization import steps_on
from mlflow_aifsm.operations.pruning import Given, Magnitude, Pruning
from mlflow_aifsm.operations.start import Freezing, Start, started
from mlflow_aifsm.result import Result
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.verification.criterion import Verification


def prune(
    model: Any,
    config: Pruning | None = None,
    *,
    data: Any = None,
    loss: Any = None,
    fine_tune: Any = None,
    example_inputs: Any = None,
    verified_model: str | None = None,
    verification: Verification | None = None,
    responsible: str | None = None,
    log_id: str | None = None,
    run_id: str | None = None,
    nested: bool | None = None,
    registered_model_name: str | None = None,
) -> Result:
    """Prunes a model, measures what the file holds, and logs the Model Optimization Log (AI-FSM).

    A PyTorch module is pruned as a copy, fine-tuned where ``fine_tune`` says how, then frozen to ONNX with a Model Conversion
    Log of its own, which shows that the model changed after it was verified. A frozen ONNX file is pruned by magnitude, in one
    step. Criterion, pattern and amount are looked up on the file.

    Args:
        model: A PyTorch module, which stays as it is, or the URI of one; or a frozen ONNX model: result of ``freeze``, path,
            URI, ``onnx.ModelProto``. A module that MLflow saved as pt2 has no layers left: it is frozen first, and
            pruned as a file.
        config: ``Magnitude`` or ``Gradient``; ``Magnitude()``, half of all weights under one threshold, if None.
        data: Data, with labels, for gradients; samples for the adaptation of batch normalizations.
        loss: From outputs and labels of a batch to the mean loss of its samples, for ``Gradient``.
        fine_tune: A function that gets the pruned module and trains it, masks in force, or a ``FineTuning``; called after each
            step. Optimizer, learning rates and number of steps are seen, not asked.
        example_inputs: What a module can be called with, as in ``freeze``; the first samples of data or verification if None.
        verified_model: URI or id of the verified learning model, where ``model`` does not tell.
        verification: Held-out data and limits; the model before pruning is the reference, and each step is judged by them.
        responsible: The person who optimizes.
        log_id: Id of the log; a log of the same id is superseded. Derived from model and run if None.
        run_id: Run to write to, finished or not.
        nested: Whether to write to a child run; None for where the run holds an optimization log already.
        registered_model_name: Name to register the pruned model under.

    Returns:
        The pruned file, where it was logged, and the record; ``.model`` is the pruned module, where a module was pruned.

    Raises:
        InputError: If model, data or config do not fit; nothing was logged then.
        NotFoundError: If the model or the run does not exist.
        OptimizationError: If a tool refuses; the run then holds a log that says so.
        TrackingError: If MLflow refuses; the pruned file and the record are then kept on disk.

    Example:
        >>> sparse = prune(model, Magnitude(0.5), fine_tune=train, verification=judged)  # doctest: +SKIP
        >>> sparse.record.entries["aifsm.pruning.patterns"].value.brief  # doctest: +SKIP
        'element'
    """
    asked, given = config or Magnitude(), Given.of(data, loss, fine_tune)
    where: dict[str, Any] = {"responsible": responsible, "run_id": run_id, "nested": nested}
    freezing = Freezing(example_inputs, verified_model, verification, where)
    with kept():
        start = started(model, _examples(given, verification), freezing, live=True)
        _check(start, asked, given)
    with steps_on(start, freezing, log_id=log_id, registered_model_name=registered_model_name) as steps:
        steps.prune(asked, data=given.samples, loss=loss, fine_tune=given.tuning)
    return steps.result


def _examples(given: Given, verification: Verification | None) -> Samples | None:
    """Data whose first samples are an example of the module's inputs."""
    if given.samples is not None:
        return given.samples
    return None if verification is None else Samples.of(verification.described)


def _check(start: Start, asked: Pruning, given: Given) -> None:
    """Refuses before a run is started what cannot be pruned."""
    if start.path is not None:
        prune_file.check(start.path, asked, given)
        return
    # PyTorch takes seconds to import, and an ONNX file does not need it
    from mlflow_aifsm.operations.prune_module import checked

    checked(start.module, asked, given)
