"""Targets into logs: whatever their number, the runs are fetched many at a time and each registered model once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow_aifsm.audit import FILE_LIKE, record_and_delivered
from mlflow_aifsm.capture.frozen import file_set
from mlflow_aifsm.digests import set_digest
from mlflow_aifsm.errors import NotFoundError
from mlflow_aifsm.lineage import REGISTERED
from mlflow_aifsm.record import Record
from mlflow_aifsm.template import LOGS
from mlflow_aifsm.tracking import search
from mlflow_aifsm.tracking.keys import tag
from mlflow_aifsm.tracking.read import logs_by_output
from mlflow_aifsm.tracking.search import FoundLog, quoted
from mlflow_aifsm.tracking.versions import REMEDY, version_of_alias, versions

MODEL = re.compile(r"models:/(?P<name>[^/@]+)$")
"""All versions of a registered model, or a logged model."""
LOGGED = re.compile(r"m-[0-9a-f]{32}$")
"""Id of a logged model."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a log is said to be: its run, the target that says so, and which of the run's logs, all if nothing is said.

    A target may stand for ``several`` logs, and then some may be gone.
    """

    run_id: str
    target: str
    log: str = ""
    log_id: str = ""
    several: bool = False

    def holds(self, log: FoundLog) -> bool:
        """Whether ``log`` is one of those that are meant."""
        return self.log in ("", log.log) and self.log_id in ("", log.log_id)


@dataclass(frozen=True, slots=True)
class Gathered:
    """Logs in the order of their targets, each once, and what could not be taken along, in sentences."""

    logs: tuple[FoundLog, ...]
    notes: tuple[str, ...] = ()


def gather(targets: Sequence[str]) -> Gathered:
    """The logs of ``targets``.

    Args:
        targets: Run ids, ``runs:/`` or ``models:/`` URIs, ``models:/<name>`` for all versions, model folders, delivered files.

    Raises:
        NotFoundError: If there is no such target, or it has no log.
        TrackingError: If MLflow cannot be reached.
    """
    places = search.experiments()
    finder = _Finder(places)
    said = [place for target in targets for place in finder.places_of(target)]
    held = search.logs_of_runs((place.run_id for place in said), places)
    gone = [place for place in said if place.several and not any(map(place.holds, held.get(place.run_id, ())))]
    kept = [place for place in said if place not in gone] or said
    unique = {(log.run_id, log.log): log for place in kept for log in _logs(place, held)}
    without = (
        f"Left out, as run {place.run_id}{_named(place)} is deleted or holds no such log." for place in dict.fromkeys(gone)
    )
    return Gathered(tuple(unique.values()), (*finder.notes, *without))


def _logs(place: Place, held: Mapping[str, tuple[FoundLog, ...]]) -> tuple[FoundLog, ...]:
    found = tuple(log for log in held.get(place.run_id, ()) if place.holds(log))
    if place.run_id not in held:
        remedy = "'mlflow runs list --experiment-id ID' lists those that do"
        raise NotFoundError(f"run {place.run_id}{_named(place)} does not exist", remedy=remedy)
    if not found:
        remedy = "make one with mlflow_aifsm.freeze(…, run_id=…) or mlflow_aifsm.quantize(…, run_id=…)"
        raise NotFoundError(
            f"run {place.run_id}{_named(place)} holds no such log" if place.log else f"run {place.run_id} holds no log",
            remedy=remedy,
        )
    return found


def _named(place: Place) -> str:
    return "" if place.run_id == place.target else f", which {place.target} names,"


class _Finder:
    """Says where the logs of targets are; asks the registry once for each registered model."""

    def __init__(self, places: Iterable[str]) -> None:
        self.notes: list[str] = []
        self._places = list(places)
        self._versions: dict[str, dict[int, Mapping[str, str]]] = {}

    def places_of(self, target: str) -> list[Place]:
        ways: tuple[tuple[bool, Callable[[str], Iterable[Place]]], ...] = (
            (target.startswith("runs:/"), self._of_run_uri),
            (REGISTERED.match(target) is not None, self._of_version),
            (target.startswith("models:/"), self._of_model),
            (Path(target).is_dir(), self._of_folder),
            (Path(target).is_file(), self._of_file),
            (FILE_LIKE.search(target) is not None, self._of_nothing),
        )
        return list(next((way for fits, way in ways if fits), self._of_run)(target))

    def _of_run(self, target: str) -> Iterator[Place]:
        yield Place(target, target)

    def _of_run_uri(self, target: str) -> Iterator[Place]:
        yield Place(target.removeprefix("runs:/").partition("/")[0], target)

    def _of_nothing(self, target: str) -> Iterator[Place]:
        remedy = "name a run id, a runs:/ or models:/ URI, a folder or a file that exists"
        raise NotFoundError(f"there is no file or folder {target}", remedy=remedy)

    def _of_folder(self, target: str) -> Iterator[Place]:
        record = Record.from_json(record_and_delivered(Path(target), target)[0].read_bytes())
        yield Place(record.run_id, target, record.template.log)

    def _of_file(self, target: str) -> Iterator[Place]:
        digest = set_digest(file_set(Path(target)))
        found = logs_by_output(digest)
        if not found:
            raise NotFoundError(f"no run delivered {target}, sha256 {digest[:12]}…", remedy="name the run instead")
        run_id, log_id = found[0]
        yield Place(run_id, target, log_id=log_id)

    def _of_model(self, target: str) -> Iterator[Place]:
        match = MODEL.match(target)
        name = match["name"] if match else ""
        if LOGGED.match(name):
            yield from self._logged(target)
            return
        placed = {number: list(_places(tags, target, several=True)) for number, tags in self._all(name).items()}
        if not any(placed.values()):
            raise NotFoundError(f"{target} has no version with a log", remedy=REMEDY)
        without = [str(number) for number, found in placed.items() if not found]
        if without:
            words = "versions" if len(without) > 1 else "version"
            self.notes.append(f"Left out, as no log made them: {words} {', '.join(without)} of {target}.")
        for found in placed.values():
            yield from found

    def _logged(self, target: str) -> Iterator[Place]:
        for log in LOGS:
            for run in search.runs(self._places, f"tags.`{tag(log, 'model_uri')}` = {quoted(target)}"):
                yield Place(str(run.info.run_id), target, log)
                return
        raise NotFoundError(f"no log delivered {target}", remedy=REMEDY)

    def _of_version(self, target: str) -> Iterator[Place]:
        match = REGISTERED.match(target)
        name, wanted, alias = (match["name"], match["version"], match["alias"]) if match else ("", "", "")
        held = self._all(name)
        if alias:
            number = version_of_alias(name, alias)
        elif wanted == "latest":
            number = max(held, default=0)
        else:
            number = int(wanted) if wanted.isdecimal() else 0
        if number not in held:
            raise NotFoundError(f"registered model {target} does not exist", remedy=REMEDY)
        places = list(_places(held[number], target))
        if not places:
            raise NotFoundError(f"{target} has no log", remedy="name the run that made it")
        yield from places

    def _all(self, name: str) -> dict[int, Mapping[str, str]]:
        if name not in self._versions:
            self._versions[name] = versions(name)
        return self._versions[name]


def _places(tags: Mapping[str, str], target: str, *, several: bool = False) -> Iterator[Place]:
    """The log that delivered a version, as its tags name it."""
    for log in LOGS:
        if run_id := tags.get(tag(log, "run_id")):
            yield Place(run_id, target, log, several=several)
