"""Beginning a log: who converts which verified model, under which id, in which run. All is checked before work starts."""

from __future__ import annotations

import getpass
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from mlflow_aifsm import config as settings
from mlflow_aifsm.capture.source_code import source_code
from mlflow_aifsm.config import Config
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import Fact, Finding, captured
from mlflow_aifsm.lineage import UNREGISTERED, VerifiedModel
from mlflow_aifsm.record import Supersedes
from mlflow_aifsm.recording import Recording
from mlflow_aifsm.template import Template, load
from mlflow_aifsm.tracking import read, write
from mlflow_aifsm.tracking.write import Place

ID = re.compile(r"[\w.\-]{1,200}", re.ASCII)
"""What a log id may be made of: it stands in tags, file names and search filters."""

NAMED = "argument responsible"
"""Source of a responsible that the call names."""

# of two threads that log the same template in one run, the second must see the first one's claim
_CLAIMING = threading.Lock()


def opened(
    log: str,
    model: VerifiedModel | None,
    *,
    input_id: str = "",
    responsible: str | None = None,
    log_id: str | None = None,
    run_id: str | None = None,
    nested: bool | None = None,
    registered_model_name: str | None = None,
) -> Recording:
    """A recording in its run, with the head of its table filled.

    Args:
        log: ``conversion`` or ``optimization``.
        model: The verified learning model, resolved; None if there is none.
        input_id: Id of the direct input where that is a conversion.
        responsible: The person who converts.
        log_id: Id of the log; derived from the model and the run if none is given.
        run_id: Run to write to, finished or not; the active one, or a new one, if none is given.
        nested: Whether to write to a child run; None for where it is needed.
        registered_model_name: Name to register the delivered model under.

    Raises:
        InputError: If the id cannot be used, or the run holds such a log already and ``nested`` is False.
        NotFoundError: If there is no such run.
        TrackingError: If MLflow cannot be reached.
    """
    config, template = settings.load(), load(log)
    if log_id is not None:
        _check_id(log_id, config)
    made_at = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    older = read.latest_by_log_id(log, log_id) if log_id else None
    with _claimed(log, run_id, nested, lambda place: log_id or _derived(model, template, place)) as (place, identity):
        recording = Recording(
            template,
            place,
            identity,
            made_at,
            config,
            source_code(),
            subject=model.id if model else UNREGISTERED,
            registered_model_name=registered_model_name,
            source_uri=model.uri if model else "",
            supersedes=Supersedes(*older) if older else None,
        )
        recording.add(*_head(recording, template, given=log_id is not None), _responsible(responsible, config))
        recording.add(_input(model, input_id))
    if place.parent:
        recording.note(f"Run {place.parent} holds a {log} log already; this one is in its child run {place.run_id}.")
    return recording


@contextmanager
def _claimed(log: str, run_id: str | None, nested: bool | None, named: Callable[[Place], str]) -> Iterator[tuple[Place, str]]:
    """The run for a log, claimed for it, and the log's id; where the log cannot be begun after all, the run is ended."""
    with _CLAIMING:
        place = write.place(log, run_id, nested)
        if not _claim(log, place, named(place)):
            if nested is False:
                raise write.occupied(log, place.run_id)
            place = write.place(log, place.run_id, nested=True)
            _claim(log, place, named(place))
    with _ended(place):
        yield place, named(place)


def _claim(log: str, place: Place, identity: str) -> bool:
    with _ended(place):
        return write.claim(log, place.run_id, identity)


@contextmanager
def _ended(place: Place) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(Exception):
            write.end(place, failed=True)
        raise


def _derived(model: VerifiedModel | None, template: Template, place: Place) -> str:
    """An id for a log that was given none; it names files, so that it has no letter that a path would take for its own."""
    subject = re.sub(r"[^\w.\-]", "-", model.id if model else UNREGISTERED, flags=re.ASCII)
    return f"{subject[:150]}-{template.code}-{place.run_id[:8]}"


def _check_id(log_id: str, config: Config) -> None:
    pattern = re.compile(config.id_pattern) if config.id_pattern else ID
    if not ID.fullmatch(log_id) or not pattern.fullmatch(log_id):
        raise InputError(f"log id '{log_id}'", expected=f"a match of {pattern.pattern}")


def _head(recording: Recording, template: Template, *, given: bool) -> tuple[Fact, ...]:
    origin = "argument log_id" if given else "derived from the verified model and the run"
    return (
        captured("log.id", recording.log_id, source=origin),
        captured("log.date", recording.made_at, source="clock of the host"),
        captured("log.phase", "Inference Management", source=f"template {template.id} v{template.version}"),
    )


def _responsible(given: str | None, config: Config) -> Fact:
    if given:
        return captured("log.responsible", given, source=NAMED)
    if config.responsible:
        return captured("log.responsible", config.responsible, source=config.origin_of("responsible"))
    return captured("log.responsible", _account(), source="account name; no responsible person was named")


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown account"


def _input(model: VerifiedModel | None, input_id: str) -> Fact:
    if input_id:
        return captured("input.id", input_id, source="log of the conversion that made the input")
    if model is None or model.id == UNREGISTERED:
        finding = Finding(
            "input_unregistered",
            asked="the registered version that was verified",
            measured=model.uri if model else "no model was named",
            effect="nothing ties the input to a verification",
        )
        return captured("input.id", UNREGISTERED, source=model.uri if model else "call", findings=[finding])
    told = f"registered model {model.uri}" if model.uri else "" if model.named_by else "argument verified_model"
    return captured("input.id", model.id, source=", ".join(filter(None, (model.named_by, told))))
