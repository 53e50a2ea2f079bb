"""Whether two logs can be ranked against each other: same verification data, same runtime, same model to begin with.

An accuracy on other data, or of another network, is another quantity. What cannot be told is not taken for the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlflow_aifsm.lineage import UNREGISTERED
from mlflow_aifsm.record import Status
from mlflow_aifsm.report.comparison import RELATIVE
from mlflow_aifsm.tracking.search import UNFINISHED, FoundLog

QUALITIES = ("accuracy", "agreement", "sqnr_db")
"""Numbers that rank models, the first one that was measured: ratios in [0, 1], then a ratio in dB."""
ENDED: Mapping[str, str] = {
    UNFINISHED: "was begun and is not finished",
    str(Status.FAILED): "failed",
    str(Status.VERIFICATION_FAILED): "missed the criterion of its verification",
}
"""States in which a model is shown and not ranked, in words."""
UNKNOWN = "does not say on which data, in which runtime and from which model it was verified"


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a ranking stands on; two logs are ranked against each other where all of it is the same.

    Attributes:
        data: Digest of the verification data.
        runtime: Runtime of record, with version, provider and optimization level.
        origin: The model it all began with.
        beside: Digest of the model that went in, where the number that ranks is one beside that model's; else empty.
    """

    data: str
    runtime: str
    origin: str
    beside: str = ""

    def known(self, quality: str) -> bool:
        """Whether all is known that a ranking by ``quality`` stands on."""
        return bool(self.data and self.runtime and self.origin and (self.beside or quality not in RELATIVE))


def quality_of(logs: Sequence[FoundLog]) -> str:
    """The first of `QUALITIES` that a log has which may be ranked, else any finished log; empty if none has one."""
    delivered = [log for log in logs if log.delivered]
    asked = [log for log in delivered if log.status not in ENDED] or delivered
    measured = {name for log in asked for name in log.numbers}
    return next((name for name in QUALITIES if name in measured), "")


def grounds(logs: Sequence[FoundLog], quality: str) -> list[Grounds]:
    """For each log what its ranking by ``quality`` stands on."""
    origins = _origins(logs)
    # a ratio to the model that went in says nothing beside a ratio to another one
    beside = [log.tags.get("input_sha256", "") if quality in RELATIVE else "" for log in logs]
    return [
        Grounds(log.tags.get("data_sha256", ""), log.tags.get("runtime", ""), origin, sha256)
        for log, origin, sha256 in zip(logs, origins, beside, strict=True)
    ]


def unranked(log: FoundLog, quality: str, stands_on: Grounds) -> str:
    """Why a log is not ranked, in words that follow its name; empty where it is."""
    if log.status in ENDED:
        return ENDED[log.status]
    if log.status not in set(Status):
        return "has no state that a log can have"
    if quality not in log.numbers:
        return f"has no {quality or QUALITIES[0]}"
    return "" if stands_on.known(quality) else UNKNOWN


def clock(log: FoundLog) -> str:
    """What the log's speedup is relative to: the model that went in, the runtime, the host; empty where one is unknown."""
    parts = [log.tags.get(name, "") for name in ("input_sha256", "runtime", "host")]
    return " · ".join(parts) if all(parts) else ""


def clocks(logs: Sequence[FoundLog]) -> dict[str, str]:
    """The clock of each model that others were clocked against, by its digest, where all of them ran in one place."""
    found: dict[str, set[str]] = {}
    for log in logs:
        if "speedup" in log.numbers and clock(log):
            found.setdefault(log.tags["input_sha256"], set()).add(clock(log))
    return {digest: next(iter(told)) for digest, told in found.items() if len(told) == 1}


def _origins(logs: Sequence[FoundLog]) -> list[str]:
    """For each log the model that the first log of its chain began with, by declared id, else by digest."""
    by_output = {log.tags["output_sha256"]: log for log in reversed(logs) if log.tags.get("output_sha256")}
    by_id = {log.log_id: log for log in reversed(logs) if log.log_id}
    return [_origin(log, by_output, by_id) for log in logs]


def _origin(log: FoundLog, by_output: Mapping[str, FoundLog], by_id: Mapping[str, FoundLog]) -> str:
    seen: list[FoundLog] = []
    while log not in seen:
        seen.append(log)
        digest, name = log.tags.get("input_sha256", ""), log.tags.get("input_id", "")
        # two runs may deliver the same bytes: the one that is named goes first
        named = by_id.get(name)
        log = by_output.get(digest, named or log) if named is None or named.tags.get("output_sha256") != digest else named
    name = log.tags.get("input_id", "")
    return log.tags.get("input_sha256", "") if name in ("", UNREGISTERED) else name
