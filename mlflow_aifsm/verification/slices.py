"""Parts of the verification data that are judged apart, as night images or one camera: each has its own accuracy and flips.

An overall figure hides a part that lost much and is small (EASA Concept Paper Issue 02, IMP-06 and LM-06 ask what a
transformation did to the defined properties, not to their mean).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Json
from mlflow_aifsm.sources import as_array
from mlflow_aifsm.verification.decisions import Decisions

PREFIX = "slice."
"""How the numbers of a slice begin: ``slice.<name>.<number>``."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice of the data.

    Attributes:
        name: Its name.
        samples: Number of its samples.
        flips: How many of their decisions changed; None without a reference.
        before: Accuracy of the reference; None without labels or reference.
        after: Accuracy of the delivered model; None without labels.
    """

    name: str
    samples: int
    flips: int | None = None
    before: float | None = None
    after: float | None = None

    @property
    def drop(self) -> float | None:
        """Accuracy before minus after, ratio in [-1, 1]; None where one is missing."""
        return None if self.before is None or self.after is None else self.before - self.after

    @property
    def numbers(self) -> dict[str, Json]:
        """``slice.<name>.samples``, ``.flips``, ``.accuracy_before``, ``.accuracy_after``, ``.accuracy_drop``, where known."""
        counts = {"samples": self.samples, "flips": self.flips}
        accuracy = {"accuracy_before": self.before, "accuracy_after": self.after, "accuracy_drop": self.drop}
        known = {**counts, **accuracy}
        return {f"{PREFIX}{self.name}.{number}": value for number, value in known.items() if value is not None}


def masks(slices: Mapping[str, Any] | Any) -> dict[str, Mask]:
    """One mask ``[n]`` for each slice, by name.

    Args:
        slices: Mapping of name to one bool a sample, where slices may overlap; or the name of its slice for each sample
            (shape ``[n]``), where they do not. None for no slices.

    Raises:
        InputError: If a mask holds anything but bools, a slice holds no sample or has no name, or a shape is not ``[n]``.
    """
    if slices is None:
        return {}
    found = (
        {str(name): _mask(str(name), given) for name, given in slices.items()}
        if isinstance(slices, Mapping)
        else _named(slices)
    )
    for name, mask in found.items():
        if not name or not mask.any():
            what = f"slice '{name}' holds no sample" if name else "a slice has no name"
            raise InputError(what, expected="at least one sample" if name else "a name for each slice")
    if not found:
        raise InputError("slices hold no slice", expected="a mapping of name to mask, or one name a sample")
    return found


def check_length(found: Mapping[str, Mask], samples: int) -> None:
    """Raises an error where a mask does not number the samples.

    Raises:
        InputError: If a mask has more or fewer entries than there are samples.
    """
    for name, mask in found.items():
        if len(mask) != samples:
            raise InputError(f"slice '{name}' does not fit the samples", got=f"{len(mask)} entries", expected=samples)


def judged(found: Mapping[str, Mask], decisions: Decisions, *, compared: bool) -> tuple[Slice, ...]:
    """Each slice with what was decided in it, and if ``compared`` what changed; none where nothing was decided."""
    if not len(decisions.before):
        return ()
    parts = tuple(_judged(name, mask, decisions) for name, mask in found.items())
    return parts if compared else tuple(replace(part, flips=None, before=None) for part in parts)


def numbers(found: tuple[Slice, ...]) -> dict[str, Json]:
    """The numbers of all slices, and with labels ``slice_drop``, the largest drop, beside ``worst_slice``, whose it is."""
    each = {name: value for part in found for name, value in part.numbers.items()}
    drops = {part.name: part.drop for part in found if part.drop is not None}
    if not drops:
        return each
    worst = max(drops, key=lambda name: drops[name])
    return {**each, "worst_slice": worst, "slice_drop": drops[worst]}


def _judged(name: str, mask: Mask, decisions: Decisions) -> Slice:
    part = Slice(name, int(np.count_nonzero(mask)), int(np.count_nonzero(decisions.changed[mask])))
    if (right := decisions.right) is None:
        return part
    return replace(part, before=float(right[0][mask].mean()), after=float(right[1][mask].mean()))


def _mask(name: str, given: Any) -> Mask:
    mask = as_array(given)
    if mask.dtype != np.bool_ or mask.ndim != 1:
        got = f"dtype {mask.dtype}, shape {list(mask.shape)}"
        raise InputError(f"the mask of slice '{name}' does not fit", got=got, expected="one bool for each sample")
    return mask


def _named(given: Any) -> dict[str, Mask]:
    names = np.asarray(given)
    if names.ndim != 1:
        raise InputError("slices do not fit", got=f"shape {list(names.shape)}", expected="one name for each sample")
    # a column of a table holds its names as objects
    words = names.astype(str)
    return {str(name): words == name for name in np.unique(words)}
