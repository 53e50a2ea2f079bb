"""Whether a model's outputs depend on anything but its input: on the run, or on the other samples of the batch.

An active Dropout shows only in a second run of the same batch; a BatchNorm that takes its statistics from the batch agrees with
its source model on every batch, and shows only when samples run alone.
"""

from __future__ import annotations

import numpy as np

from mlflow_aifsm.samples import Batch
from mlflow_aifsm.verification.distance import largest_difference
from mlflow_aifsm.verification.session import Session

NOT_PROBED = "not_probed"
"""Name of the text among the numbers that says what was not probed, and why."""
PROBED = 8
"""Samples of the first batch that are run one by one."""


def invariance(session: Session, batch: Batch, outputs: Batch) -> dict[str, float | str]:
    """Largest absolute differences of ``outputs`` to other runs of the same samples, in output units.

    Args:
        session: The delivered model.
        batch: Inputs ``[n, …]`` by name, in the dtypes the model takes.
        outputs: What the model gave for them.

    Returns:
        ``repeat_diff`` between two runs of the batch, and ``batch_invariance`` between samples run together and one by one,
        where the model has a free batch axis and there are two samples; else ``not_probed`` says why there is none.
    """
    count = len(next(iter(batch.values())))
    repeated = largest_difference(outputs, session.run(batch), count)
    if why := _not_probed(session, outputs, count):
        return {"repeat_diff": repeated, NOT_PROBED: f"batch invariance: {why}"}
    return {"repeat_diff": repeated, "batch_invariance": _alone_or_together(session, batch, min(count, PROBED))}


def _not_probed(session: Session, outputs: Batch, count: int) -> str:
    if session.fixed_batch is not None:
        return f"the file fixes its batch at {session.fixed_batch}"
    if count == 1:
        return "the first batch held one sample"
    return "" if any(array.shape[:1] == (count,) for array in outputs.values()) else "no output has a batch axis"


def _alone_or_together(session: Session, batch: Batch, count: int) -> float:
    together = session.run({name: array[:count] for name, array in batch.items()})
    alone = [session.run({name: array[index : index + 1] for name, array in batch.items()}) for index in range(count)]
    batched = [name for name, array in together.items() if array.shape[:1] == (count,)]
    joined = {name: np.concatenate([outputs[name] for outputs in alone]) for name in batched}
    return largest_difference({name: together[name] for name in batched}, joined, count)
