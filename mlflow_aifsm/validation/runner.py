"""Runs all trials with the product's own verbs and says which faults were caught."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from mlflow_aifsm import audit
from mlflow_aifsm.capture import environment, tool_validation
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import jsonable
from mlflow_aifsm.recording import PACKAGE_ROOTS
from mlflow_aifsm.validation import (
    bench,
    conversion,
    data,
    good_models,
    integrity,
    optimization,
    pruning,
    quantization,
    weights,
)
from mlflow_aifsm.validation.record import Outcome, ValidationRecord
from mlflow_aifsm.validation.report import page
from mlflow_aifsm.validation.trial import Trial, observed
from mlflow_aifsm.validation.workplace import workplace

FAULTS: Mapping[str, ModuleType] = {
    "conversion": conversion,
    "weights": weights,
    "data": data,
    "optimization": optimization,
    "quantization": quantization,
    "pruning": pruning,
    "integrity": integrity,
}
"""Groups of faults; every fault of these files is run, in the order in which it stands there."""
GOOD = {"good models": good_models}

Progress = Callable[[int, int | None], None]


def trials(groups: Mapping[str, ModuleType]) -> list[tuple[str, Trial]]:
    """All trials of ``groups`` with the name of their group."""
    return [(group, one) for group, module in groups.items() for one in vars(module).values() if isinstance(one, Trial)]


def validate(progress: Progress | None = None) -> ValidationRecord:
    """Injects every fault and makes every good model, and records what the tool says of each.

    Args:
        progress: Called after each trial with the trials done and their number.

    Raises:
        InputError: If a run is active.
    """
    begun, started = _now(), time.monotonic()
    bench.forget()
    outcomes = []
    listed = trials({**GOOD, **FAULTS})
    with workplace():
        for number, (group, trial) in enumerate(listed, 1):
            outcomes.append(_tried(group, trial))
            if progress is not None:
                progress(number, len(listed))
    return _record(tuple(outcomes), begun, time.monotonic() - started)


def kept(record: ValidationRecord, folder: Path | None = None) -> tuple[Path, ...]:
    """Writes the record into ``folder`` as HTML and JSON, and where logs of this environment look for it.

    Raises:
        InputError: If a file cannot be written.
    """
    asked = {} if folder is None else {folder / "validation.html": page(record), folder / "validation.json": record.to_json()}
    files = {**asked, tool_validation.record_path(record.environment_sha256): record.to_json()}
    for path, content in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            remedy = "name another place with -o, or set XDG_DATA_HOME"
            raise InputError(f"cannot write {path}: {error.strerror}", remedy=remedy) from error
    return tuple(files)


def _tried(group: str, trial: Trial) -> Outcome:
    at, started = _now(), time.monotonic()
    found, passed = _ran(trial)
    expected = str(trial.expected or "verification passed, nothing found")
    return Outcome(
        group, trial.name, trial.about, trial.source, expected, found, passed, at, round(time.monotonic() - started, 2)
    )


def _ran(trial: Trial) -> tuple[tuple[str, ...], bool]:
    """What the tool said of a trial; a trial that breaks off has shown nothing."""
    try:
        # NNCF draws its progress on standard output
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = trial.make()
            # a module that is pruned has a conversion log in the same run
            (log,) = (one for one in audit.read(made.run_id) if one.record.log_id == made.log_id)
        seen = observed(log)
        return tuple(map(str, seen)), trial.passed(log, seen)
    except Exception as error:  # noqa: BLE001 -- whatever it is, the fault was not caught
        words = " ".join(str(error).split())
        return (f"the trial itself failed: {type(error).__name__}: {words}",), False


def _record(outcomes: tuple[Outcome, ...], made_at: str, seconds: float) -> ValidationRecord:
    host, packages = jsonable(environment.host()), environment.packages(PACKAGE_ROOTS)
    return ValidationRecord(
        tool=tool_validation.tool(),
        tool_sha256=tool_validation.tool_digest(),
        manual=f"docs/manual.md of {tool_validation.tool()}",
        made_at=made_at,
        seconds=round(seconds, 1),
        environment_sha256=tool_validation.environment_digest(host, packages),
        host=host,
        packages=packages,
        faults=tuple(one for one in outcomes if one.group in FAULTS),
        good_models=tuple(one for one in outcomes if one.group in GOOD),
    )


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")
