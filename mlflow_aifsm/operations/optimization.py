"""``optimization``: several steps on one model, in their order, in one Model Optimization Log with one delivered file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_aifsm.capture.onnx_graph import file_set
from mlflow_aifsm.digests import set_digest
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import captured
from mlflow_aifsm.hooks.context import record_optimization
from mlflow_aifsm.operations import delivery, float_model, prune_file, quantize_step, support
from mlflow_aifsm.operations.delivery import Made
from mlflow_aifsm.operations.generators import kept
from mlflow_aifsm.operations.pruned import Pruned
from mlflow_aifsm.operations.pruning import FineTuning, Given, Magnitude, Pruning
from mlflow_aifsm.operations.quantization import Quantization, Static
from mlflow_aifsm.operations.start import Freezing, Start, started
from mlflow_aifsm.operations.steps import Step
from mlflow_aifsm.recording import Recording
from mlflow_aifsm.result import Result
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.verification.criterion import Verification

if TYPE_CHECKING:
    from mlflow_aifsm.operations.prune_module import ModulePruning


class Optimization:
    """Steps that make one optimized model and one Model Optimization Log. ``mlflow_aifsm.optimization`` makes one.

    Attributes:
        log: The log while it is being made: notes and declarations go there.
    """

    def __init__(self, log: Recording, start: Start, freezing: Freezing) -> None:
        self.log = log
        self._start, self._freezing = start, freezing
        self._dense = self._path = start.path
        self._work: ModulePruning | None = None
        self._pruned: list[Pruned] = []
        self._made: Made | None = None
        self._number = 0
        self._steps = [start.step] if start.frozen else []

    @property
    def result(self) -> Result:
        """The outcome, after the body; ``.model`` is the pruned module, where a module was pruned.

        Raises:
            InputError: If the body has not ended yet.
        """
        return self.log.finished

    def prune(self, config: Pruning | None = None, *, data: Any = None, loss: Any = None, fine_tune: Any = None) -> None:
        """Prunes the model; see ``mlflow_aifsm.prune`` for the arguments.

        Raises:
            InputError: If config and model do not fit, or the model is quantized by now.
        """
        asked, given = config or Magnitude(), Given.of(data, loss, fine_tune)
        self._check_float("prune")
        if self._path is None:
            self._module().prune(asked, given)
        else:
            prune_file.check(self._path, asked, given)
            self._path, pruned, step = prune_file.prune(self.log, self._path, asked, self._number + 1)
            self._pruned.append(pruned)
            self._steps.append(step)
        self._number += 1

    def fine_tune(self, train: Any) -> None:
        """Trains the pruned module with its masks in force.

        Args:
            train: A function that gets the module, or a ``FineTuning``.

        Raises:
            InputError: If no module was pruned before, the model is frozen by now, or pruned weights came back.
        """
        self._check_float("fine_tune")
        tuning = FineTuning.of(train)
        if self._work is None or tuning is None or self._path is not None:
            got = "a frozen file" if self._path is not None else "a module that nothing was pruned in"
            raise InputError(
                "fine_tune wins back what pruning cost", got=got, expected="a pruned PyTorch module before its freeze"
            )
        self._module().fine_tune(tuning)
        self._number += 1

    @kept()
    def quantize(self, data: Any = None, config: Quantization | None = None) -> None:
        """Quantizes the model after what was done so far; a module is frozen before. See ``mlflow_aifsm.quantize``.

        Raises:
            InputError: If data, config and model do not fit, or the model is quantized by now.
            OptimizationError: If the tool refuses.
        """
        asked = config or Static()
        self._check_float("quantize")
        support.check(asked)
        support.check_data(asked, given=data is not None)
        path = self._frozen(self._number + 1)
        done, call = quantize_step.quantized(self.log, path, None if data is None else Samples.of(data), asked)
        self._made = Made(done, path)
        what, sha256 = quantize_step.told(asked) or call.value.brief, set_digest(file_set(done.quantized.path))
        self._number += 1
        self._steps.append(Step("quantize", what, self._number, sha256, call))

    @kept()
    def close(self) -> None:
        """Freezes what is not frozen yet, measures the file and verifies it; the context manager calls it.

        Raises:
            InputError: If there was no step.
        """
        if not self._number:
            raise InputError("an optimization without a step", expected="prune or quantize in its body")
        path = self._frozen(self._number)
        dense, made = self._dense or path, self._made or Made(None, path)
        delivery.deliver(self.log, self._start, made, dense, self._pruned, self._steps)
        if self._freezing.verification is not None:
            delivery.verify(self.log, dense, self._freezing.verification, made)

    @property
    def module(self) -> Any:
        """The pruned module; None where no module was pruned."""
        return self._work.module if self._work else None

    def _check_float(self, what: str) -> None:
        if self._made is not None:
            remedy = "prune and fine-tune first, quantize once, at the end"
            raise InputError(f"{what} after quantize", got="a quantized model", expected="a float one", remedy=remedy)

    def _module(self) -> ModulePruning:
        """The copy of the module that is pruned; what it was before is exported too, for comparison."""
        # PyTorch takes seconds to import, and an ONNX file does not need it
        from mlflow_aifsm.operations.prune_module import begun

        if self._work is None:
            self._work, self._dense = begun(self.log, self._start, self._freezing.verification)
        self._work.number = self._number + 1
        return self._work

    def _frozen(self, number: int) -> Path:
        """The float file; a module becomes one with a Model Conversion Log of its own, within the call of that ``number``."""
        if self._path is not None:
            return self._path
        where = {**self._freezing.where, "run_id": self.log.place.run_id, "nested": None}
        model = self._start.model
        verified = (model.uri or model.id) if model else None
        freezing = replace(self._freezing, example=self._start.example, verified_model=verified, where=where)
        if self._work is None:
            origin = self._start.origin  # by its URI the conversion says that it loaded these files
            return self._taken(freezing.frozen(origin.uri if origin else self._start.module))
        self._work.finalize()
        made = freezing.frozen(self._work.module, f"pruned, as optimization log {self.log.log_id} tells")
        self._path = float_model.opened(made, None).path
        self._pruned = self._work.pruned
        what = f"frozen to ONNX, Model Conversion Log {made.log_id}"
        self._steps = [*self._work.steps, Step("freeze", what, number, made.record.output_sha256, log_id=made.log_id)]
        return self._path

    def _taken(self, made: Result) -> Path:
        """The file of a module that was frozen as it was given: the optimization starts from it."""
        frozen = float_model.opened(made, None)
        self._start = replace(self._start, frozen=frozen, sha256=set_digest(frozen.files))
        delivery.take(self.log, self._start)
        source = "log of the conversion that made the input"
        self.log.add(captured("input.id", frozen.input_id, source=source))
        self._dense = self._path = frozen.path
        self._steps = [self._start.step]
        return frozen.path


@contextmanager
def optimization(
    model: Any,
    *,
    example_inputs: Any = None,
    verified_model: str | None = None,
    verification: Verification | None = None,
    responsible: str | None = None,
    log_id: str | None = None,
    run_id: str | None = None,
    nested: bool | None = None,
    registered_model_name: str | None = None,
) -> Iterator[Optimization]:
    """Collects several steps on one model into one Model Optimization Log (AI-FSM), in their order, with one delivered file.

    A PyTorch module is pruned and trained as a copy, and frozen before it is quantized, or at the end, with a Model Conversion
    Log of its own in the same run. A body that raises is logged as failed; its exception goes on.

    Args:
        model: A PyTorch module or the URI of one; or a frozen ONNX model: result of ``freeze``, path, URI, ``onnx.ModelProto``.
        example_inputs: What a module can be called with, as in ``freeze``; the first verification samples if None.
        verified_model: URI or id of the verified learning model, where ``model`` does not tell.
        verification: Held-out data and limits; the model that went in is the reference, and each step on a module is judged
            by them.
        responsible: The person who optimizes.
        log_id: Id of the log; a log of the same id is superseded. Derived from model and run if None.
        run_id: Run to write to, finished or not.
        nested: Whether to write to a child run; None for where the run holds an optimization log already.
        registered_model_name: Name to register the delivered model under.

    Yields:
        The steps: ``prune``, ``fine_tune``, ``quantize``; ``result`` after the body.

    Raises:
        InputError: If model, data or configs do not fit, or there was no step.
        NotFoundError: If the model or the run does not exist.
        OptimizationError: If a tool refuses; the run then holds a log that says so.
        TrackingError: If MLflow refuses; the delivered file and the record are then kept on disk.

    Example:
        >>> with optimization(model, verification=judged) as opt:  # doctest: +SKIP
        ...     opt.prune(Magnitude(0.5), fine_tune=train)
        ...     opt.quantize(images)
        >>> print(opt.result)  # doctest: +SKIP
    """
    where: dict[str, Any] = {"responsible": responsible, "run_id": run_id, "nested": nested}
    freezing = Freezing(example_inputs, verified_model, verification, where)
    samples = None if verification is None else Samples.of(verification.described)
    with kept():
        start = started(model, samples, freezing, live=True)
    with steps_on(start, freezing, log_id=log_id, registered_model_name=registered_model_name) as opened:
        yield opened


@contextmanager
def steps_on(start: Start, freezing: Freezing, **named: Any) -> Iterator[Optimization]:
    """The steps on a start that was opened already.

    Args:
        start: What the steps start from.
        freezing: How a module is frozen, and the settings of the log.
        **named: ``log_id``, ``registered_model_name`` of the log.
    """
    # a conversion on the way opened the run already, so that both logs stand in one
    where = {**freezing.where, **({"run_id": start.run_id, "nested": None} if start.run_id else {})}
    conversion = start.frozen.input_id if start.frozen else ""
    with record_optimization(verified_model=start.model, input_id=conversion, **named, **where) as log:
        delivery.take(log, start)
        made = Optimization(log, start, freezing)
        yield made
        made.close()
    log.result = replace(log.finished, model=made.module)
