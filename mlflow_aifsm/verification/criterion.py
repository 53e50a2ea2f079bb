"""What a verification must show, declared before it runs: replication for a conversion, limits for an optimization.

ED-324 / ARP6983 (draft 5b) 6.4.3.6e knows two criteria for a model's replication: exact (no difference), and approximated
(the largest gap between the outputs on a given data set does not exceed epsilon). An optimized model is no replication; it
has limits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.record import NO_LIMIT
from mlflow_aifsm.samples import Data
from mlflow_aifsm.verification import limits
from mlflow_aifsm.verification.decisions import Decision
from mlflow_aifsm.verification.slices import masks

DEFAULT_EPSILON = 1e-4
"""Between the benign difference of a float32 export, 5e-6, and the smallest fault to be seen, weights through float16, 3e-3."""
ROUNDING: Mapping[str, float] = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
"""Distance from 1.0 to the next number of the element types that are coarser than float32."""
ROUNDED = 10
"""Units of rounding that two correct runs of a half-precision model may lie apart: each layer rounds, in another order."""
DEFAULT_ACCURACY_DROP = 0.01
"""Loss that a well done 8-bit quantization stays within (Wu et al. 2020, arXiv 2004.09602)."""
DEFAULT_CLASS_DROP = 0.05
"""Loss of recall that is accepted in any class: five times that of accuracy, a convention of this tool and of no standard. What
a class may lose depends on what it stands for: limit ``worst_class_drop`` or ``worst_class_recall``."""
DEFAULT_AGREEMENT = 0.99
"""Share of equal decisions where no label tells which are right: accuracy, whatever the labels, then fell by 0.01 at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """What to verify a model with, and what it must show.

    Args:
        data: Anything that ``Data`` takes, or a ``Data``; held out from training and calibration.
        labels: One label a sample, unless the data hold them: in the shape of the decisions, but for a last axis of length 1.
            Labels of another shape are an error, unless ``metrics`` judge them.
        epsilon: Largest absolute difference of outputs that passes, in output units; 0 asks for exact replication.
        reason: Why this epsilon, or these limits.
        preprocess: The deployed preprocessing of one raw sample, as in ``Data``.
        decision: From outputs (an array, or a dict of arrays for several outputs, ``[n, …]``) to decisions ``[n, …]``; without
            it, outputs that look like class scores decide by their largest.
        metrics: Functions ``(labels, decisions) -> number`` by name, called once for all samples, before and after, where more
            is better; one called ``accuracy`` takes the place of the tool's own.
        outputs: Outputs that the delivered model gave on the target device for the same samples in the same order: an array,
            or a dict of arrays by output name. The comparison takes them instead of running the model here.
        limits: What an optimized model must keep, by name of the number: upper limits for ``max``, ``p999``, ``p99``, ``mean``
            (output units), ``flips`` (count), ``flip_upper_95``, ``accuracy_drop``, ``worst_class_drop``, ``slice_drop``
            (ratios), lower limits for ``sqnr_db`` (dB), ``agreement`` and ``worst_class_recall`` (ratios), the recall being
            that of the class that lost most; upper limits for ``<name>_drop`` of the given metrics.
        batch_size: Samples run at a time.
        runtime: Name, version and settings of the runtime on the target device that gave ``outputs``.
        slices: Parts of the data to be judged apart: a mapping of name to mask (one bool a sample; slices may overlap), or the
            name of its slice for each sample. Each has its samples and changed decisions, with labels its accuracy before and
            after, and ``slice_drop`` is the largest drop among them. A length other than that of the data fails the run.
        latency: Whether to time the delivered ONNX file against the float one on this host: medians of interleaved runs of one
            sample, about two seconds in all, longer where 30 runs of each take longer.

    Raises:
        InputError: If two arguments contradict each other, or one is out of its range.
    """

    data: Any
    labels: Any = None
    epsilon: float | None = None
    reason: str | None = None
    preprocess: Callable[[Any], Any] | None = None
    decision: Decision | None = None
    metrics: Mapping[str, Callable[[Any, Any], float]] | None = None
    outputs: Any = None
    limits: Mapping[str, float] | None = None
    batch_size: int = 32
    runtime: str = ""
    slices: Any = None
    latency: bool = False

    def __post_init__(self) -> None:
        if self.epsilon is not None and self.limits is not None:
            raise InputError("epsilon and limits are both given", remedy="limit 'max' instead of epsilon")
        if self.reason and self.epsilon is None and self.limits is None:
            raise InputError("a reason is given, but neither epsilon nor limits", remedy="pass epsilon= or limits=")
        if self.runtime and self.outputs is None:
            raise InputError("a runtime is given without outputs", remedy="pass outputs=; a run on this host names its own")
        if self.epsilon is not None and not limits.is_number(self.epsilon, least=0):
            raise InputError("epsilon", got=self.epsilon, expected="a finite number of at least 0")
        if isinstance(self.batch_size, bool) or not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise InputError("batch_size", got=self.batch_size, expected="an integer of at least 1")
        limits.check(self.limits or {}, self.metrics or {})
        masks(self.slices)
        if isinstance(self.data, Data):
            _check_once(self, self.data)

    @property
    def described(self) -> Data:
        """The data with labels and preprocessing, wherever they were given."""
        given = self.data if isinstance(self.data, Data) else Data(self.data)
        labels = given.labels if self.labels is None else self.labels
        return Data(given.source, given.name, given.version, self.preprocess or given.preprocess, labels)


@dataclass(frozen=True, slots=True)
class Criterion:
    """What the numbers of a verification are judged by.

    Attributes:
        epsilon: Largest absolute difference that passes, or None.
        limits: Limits by name of the number.
        reason: Why; empty if nobody gave one.
        declared: Whether a person set it; a default limits only what was measured.
        otherwise: Limits of a default where none of ``limits`` was measured.
    """

    epsilon: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    declared: bool = True
    otherwise: Mapping[str, float] = field(default_factory=dict)

    def applied_to(self, numbers: Mapping[str, Any]) -> Criterion:
        """The criterion for what was measured: a default drops limits of what was not, a declared one keeps them."""
        if self.declared:
            return self
        kept = limits.measured(self.limits, numbers) or limits.measured(self.otherwise, numbers)
        return Criterion(self.epsilon, kept, self.reason, declared=False)

    def for_outputs(self, types: Sequence[str]) -> Criterion:
        """The criterion for outputs of these element types: a default epsilon is widened to what the coarsest can tell apart.

        Ten units of rounding at 1.0 are 0.0098 for float16 and 0.078 for bfloat16; float32 and finer keep the default. What a
        person set is never widened.
        """
        coarsest = max(types, key=lambda name: ROUNDING.get(name, 0.0), default="")
        widened = ROUNDED * ROUNDING.get(coarsest, 0.0)
        if self.declared or self.epsilon is None or widened <= self.epsilon:
            return self
        return Criterion(widened, self.limits, f"tool default for {coarsest} outputs, not justified", declared=False)

    @property
    def batch_tolerance(self) -> float | None:
        """How far a sample run alone may be from itself in a batch: epsilon, or for exact replication the tool's own.

        Exactness compares two models on the same batch; one model may sum in another order where the batch is of another size.
        """
        return None if self.epsilon is None else self.epsilon or DEFAULT_EPSILON

    @property
    def metric(self) -> str:
        """Name of the numbers that are compared."""
        return ", ".join(limits.number_of(name) for name in self.bounds)

    @property
    def bounds(self) -> dict[str, float]:
        """All limits by name, epsilon among them."""
        return {**({} if self.epsilon is None else {"max": self.epsilon}), **self.limits}

    @property
    def text(self) -> str:
        """``exact``, ``approximate``, the limits, or that none was set."""
        if self.epsilon is not None:
            return "approximate" if self.epsilon else "exact"
        return self.limits_text or ": ".join(filter(None, (NO_LIMIT, self.reason)))

    @property
    def judges_classes(self) -> bool:
        """Whether it says itself what a class may lose: by a limit of its own, or because the outputs shall be the same."""
        return self.epsilon is not None or not self.limits.keys().isdisjoint(limits.BY_CLASS)

    @property
    def limits_text(self) -> str:
        """All limits as inequalities, epsilon among them; empty if there are none."""
        return ", ".join(map(limits.bound, self.bounds, self.bounds.values()))

    @property
    def justification(self) -> str:
        """The reason, or whose default it is, or that none was given."""
        return self.reason or ("set by the caller, no reason given" if self.declared else "tool default, not justified")

    def misses(self, numbers: Mapping[str, Any]) -> tuple[str, ...]:
        """What does not hold, one phrase a limit; a limit of a number that could not be measured does not hold."""
        found = (limits.miss(name, numbers.get(limits.number_of(name)), limit) for name, limit in self.bounds.items())
        return tuple(filter(None, found))


CONVERSION = Criterion(epsilon=DEFAULT_EPSILON, declared=False)
"""Criterion of a conversion, where the caller sets none: approximate replication."""
NO_REFERENCE = Criterion(reason="there is no reference model, so only finite, repeatable outputs are asked for", declared=False)
"""Criterion where the file that was delivered is all there is, and the caller sets none."""
OPTIMIZATION = Criterion(
    limits={"accuracy_drop": DEFAULT_ACCURACY_DROP}, declared=False, otherwise={"agreement": DEFAULT_AGREEMENT}
)
"""Criterion of an optimization, where the caller sets none: accuracy where there are labels, agreement where there are
decisions alone; without either there is none, and the result says so."""


def criterion_of(verification: Verification, default: Criterion) -> Criterion:
    """The criterion the caller declared, else ``default``."""
    if verification.epsilon is None and verification.limits is None:
        return default
    return Criterion(verification.epsilon, dict(verification.limits or {}), verification.reason or "")


def _check_once(verification: Verification, data: Data) -> None:
    for name in ("labels", "preprocess"):
        if getattr(verification, name) is not None and getattr(data, name) is not None:
            raise InputError(f"{name} is given twice", got=f"{name}= and Data({name}=)", remedy="give it once")
