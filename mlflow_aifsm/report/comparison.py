"""Logs side by side as plain values: what every writer of a comparison is fed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

BESIDE = (
    "accuracy_drop",
    "worst_class_recall",
    "worst_class_drop",
    "agreement",
    "flips",
    "max_diff",
    "p99_diff",
    "sqnr_db",
)
"""Numbers of a verification that hold a model against the one it was made from, or tell of the class that lost most to it."""
RELATIVE = (*BESIDE, "size_ratio", "compressed_ratio", "speedup")
"""Numbers that hold a model against the one it was made from."""
JUDGED = ("accuracy", *BESIDE)
"""Numbers of a verification: on other data, or in another runtime, they are other quantities."""

FIRST = (
    "accuracy",
    "worst_class_recall",
    "worst_class_drop",
    "agreement",
    "size",
    "speedup",
    "accuracy_drop",
    "size_ratio",
    "sqnr_db",
    "max_diff",
    "p99_diff",
    "flips",
    "zeros",
)
"""Numbers that models are chosen by, in the order of a table; the others follow by name."""
WORDS = (
    "ptq.precision",
    "ptq.technique",
    "ptq.scheme",
    "ptq.granularity",
    "calibration.method",
    "pruning.criteria",
    "pruning.patterns",
    "recovery.partial",
    "recovery.qat",
    "conversion.precision",
    "conversion.opset",
)
"""Categories that models are known by, in the order of a table; the others follow in the templates' order."""


@dataclass(frozen=True, slots=True)
class Row:
    """One log.

    Attributes:
        number: Its number, from 1; a row keeps it where others are left out.
        name: What it is called in the comparison; no two rows share one.
        run_id: The run that holds it.
        log: ``conversion`` or ``optimization``.
        log_id: Its id.
        status: The log's status, or ``unfinished``.
        version: Registered version that it delivered, ``models:/<name>/<version>``; empty if none.
        categories: Texts by short key; a key is missing where this kind of log has no such field.
        numbers: What was measured, by short key.
        group: Rows of one number may be ranked against each other; 0 for a row that is not ranked.
        best: Whether no row of its group is at least as good in all that both measured, and better in something.
        judged_on: On which data and in which runtime it was verified; empty if one of the two is not known.
        made_from: Digest of the model that it was made from; empty if it is not known.
        seconds_of: What its speedup was clocked against, and where; rows with other words here are not ranked by time.
        is_clock: Whether it is itself the model that others were clocked against.
    """

    number: int
    name: str
    run_id: str
    log: str
    log_id: str
    status: str
    version: str = ""
    categories: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    group: int = 0
    best: bool = False
    judged_on: str = ""
    made_from: str = ""
    seconds_of: str = ""
    is_clock: bool = False

    @property
    def time(self) -> float | None:
        """Time of a run over that of the model that it was clocked against; None where it was not clocked."""
        speedup = self.numbers.get("speedup", 1.0 if self.is_clock else 0.0)
        return 1 / speedup if speedup > 0 else None

    def shares(self, other: Row, name: str) -> bool:
        """Whether a number of this row is the same quantity as that of ``other``; what is not known never is."""
        ways = (
            (name in JUDGED, self.judged_on, other.judged_on),
            (name in RELATIVE, self.made_from, other.made_from),
            (name == "speedup", self.seconds_of, other.seconds_of),
        )
        return all(mine and mine == theirs for asked, mine, theirs in ways if asked)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Logs side by side.

    Attributes:
        title: What is compared.
        rows: The logs, in the order in which they were named or made.
        differing: Keys of categories in which the logs differ, in the order of the templates.
        numbers: Keys of numbers in which they differ, those they are ranked by among them.
        same: What all logs that have it have in common: text by key.
        quality: Key of the number that ranks them beside size and time; empty if nothing was measured that could.
        baseline: Place of the row that differences are taken from.
        warnings: Why rows cannot be compared, a sentence each.
        left_out: Number of rows that are not shown.
    """

    title: str
    rows: tuple[Row, ...]
    differing: tuple[str, ...]
    numbers: tuple[str, ...]
    same: Mapping[str, str]
    quality: str
    baseline: int
    warnings: tuple[str, ...]
    left_out: int = 0

    def delta(self, row: Row, name: str) -> float | None:
        """How far a number of ``row`` is from the baseline's, in its own unit; None where they cannot be compared.

        That is where one of the two was not measured; where it is a number of a verification, and data or runtime are others;
        or where it holds them against different models, or was clocked on different hosts.
        """
        base = self.rows[self.baseline]
        before, after = base.numbers.get(name), row.numbers.get(name)
        if before is None or after is None:
            return None
        return after - before if row is base or row.shares(base, name) else None

    @property
    def best(self) -> tuple[Row, ...]:
        """The rows that are Pareto-best in their groups."""
        return tuple(row for row in self.rows if row.best)

    @property
    def groups(self) -> tuple[int, ...]:
        """Numbers of the groups that hold rows."""
        return tuple(sorted({row.group for row in self.rows} - {0}))

    def shortened(self, most: int) -> Comparison:
        """The same with at most ``most`` rows: the baseline, then the best ones, then the others in their order."""
        if len(self.rows) <= most:
            return self
        places = range(len(self.rows))
        kept = sorted(sorted(places, key=lambda at: (at != self.baseline, not self.rows[at].best, at))[:most])
        rows = tuple(self.rows[at] for at in kept)
        return replace(self, rows=rows, baseline=kept.index(self.baseline), left_out=len(self.rows) - most)
