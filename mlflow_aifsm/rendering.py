"""A target into files a person opens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from mlflow_aifsm import audit, config
from mlflow_aifsm.errors import InputError, NotFoundError
from mlflow_aifsm.record import Evidence, Record
from mlflow_aifsm.report.annex_excerpt import shortened
from mlflow_aifsm.report.formats import checked, write, write_dossier
from mlflow_aifsm.report.index import index, listed
from mlflow_aifsm.report.look import Look, look
from mlflow_aifsm.template import LOGS
from mlflow_aifsm.tracking import keys, search
from mlflow_aifsm.tracking.connection import database_exists
from mlflow_aifsm.tracking.read import logs_by_output
from mlflow_aifsm.tracking.staging import csv

NOT_IN_NAMES = re.compile(r"[^\w.+@ -]+")
"""What no file name of ours holds, separators of paths among it."""


def render_report(
    target: str,
    format: str = "html",
    output: str | Path | None = None,
    log: str | None = None,
    template: str | Path = "",
    chain: bool = False,
) -> tuple[Path, ...]:
    """Writes the report of each log that ``target`` has, conversion before optimization.

    Where a table of a log has more rows than its report shows, a CSV with all of them is written beside the report.

    Args:
        target: Run id, ``runs:/`` or ``models:/`` URI, model folder, or delivered file.
        format: ``html``, ``pdf``, ``docx``, ``md`` or ``json``; PDF needs the extra ``pdf``, DOCX the extra ``docx``.
        output: File to write, or folder; ``<log id>.<format>`` in the working folder if None. Where a target has two logs and a
            file is named, the second one gets ``-optimization`` in its name.
        log: ``conversion`` or ``optimization`` to write only that one.
        template: A DOCX form of one's own; the one that ``aifsm.toml`` names, else that of this package, if empty.
        chain: One document of all logs from the first one that led to the target: a dossier.

    Returns:
        The files that were written.

    Raises:
        InputError: If the format is unknown or its extra is missing, or the form or the logo cannot be used.
        NotFoundError: If there is no such target, or it has no log.
        TrackingError: If MLflow cannot be reached.
    """
    chosen = settled(format, template)
    logs = audit.read(target, log)
    return dossier(chained(logs), format, output, chosen) if chain else rendered(logs, format, output, chosen)


def settled(format: str, template: str | Path = "") -> Look:
    """The look of reports in ``format``, from the settings; refuses what cannot be written before anything is read.

    Raises:
        InputError: If there is no such format, an extra is missing, or a form is given to a format that has none.
    """
    checked(format)
    if template and format != "docx":
        raise InputError(
            "a form is for DOCX alone", got=f"format {format}", remedy="add --format docx, or leave --template out"
        )
    settings = config.load()
    form = (template or settings.path_of("docx_template")) if format == "docx" else ""
    return look(settings.path_of("logo"), form)


def streamed(logs: Sequence[Evidence], format: str, chosen: Look, *, chain: bool) -> bytes:
    """The reports one after the other for a pipe, or the one of them all."""
    if chain:
        return write_dossier(logs, format, chosen)
    return b"\n".join(write(evidence, format, chosen) for evidence in logs)


def rendered(logs: Sequence[Evidence], format: str, output: str | Path | None, chosen: Look) -> tuple[Path, ...]:
    """Writes the reports of evidence that was read already; see ``render_report``."""
    paths = _paths(logs, format, output)
    pairs = zip(paths, logs, strict=True)
    return tuple(file for path, evidence in pairs for file in _report(path, evidence, format, chosen))


def _report(path: Path, evidence: Evidence, format: str, chosen: Look) -> Iterator[Path]:
    yield _written(path, write(evidence, format, chosen))
    if format != "json":
        yield from _tables(path, evidence)


def _tables(path: Path, evidence: Evidence) -> Iterator[Path]:
    for name in shortened(evidence.tables):
        yield _written(path.with_name(f"{path.stem}-{name}.csv"), csv(evidence.tables[name]))


def dossier(logs: Sequence[Evidence], format: str, output: str | Path | None, chosen: Look) -> tuple[Path, ...]:
    """Writes one document of all ``logs``; it is named after the last one."""
    (path,) = _paths(logs[-1:], f"dossier.{format}", output)
    files = [_written(path, write_dossier(logs, format, chosen))]
    for evidence in logs if format != "json" else ():
        files += _tables(path.with_name(_name(evidence, format)), evidence)
    return tuple(files)


def chained(logs: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """``logs``, and before them the logs that delivered what they began with, as far as MLflow knows them."""
    found = list(logs)
    while earlier := _earlier(found):
        found.insert(0, earlier)
    return tuple(found)


def _earlier(logs: Sequence[Evidence]) -> Evidence | None:
    """The log whose delivered file is the input of the first one; each log stands once."""
    wanted = logs[0].record.input_sha256
    if not wanted:
        return None
    seen = {evidence.sha256 for evidence in logs}
    for run_id, log_id in sorted(logs_by_output(wanted), key=partial(_distance, logs[0].record)):
        for one in audit.read(run_id):
            if one.record.log_id == log_id and one.record.output_sha256 == wanted and one.sha256 not in seen:
                return one
    return None


def _distance(later: Record, log: tuple[str, str]) -> int:
    """Several logs may have delivered the same bytes: the one that ``later`` names, then one of its run, then the newest."""
    run_id, log_id = log
    named = log_id and log_id in {entry.value.text for entry in later.entries.values() if entry.value}
    return 0 if named else 1 if run_id == later.run_id else 2


def rendered_experiment(name: str, folder: str | Path, format: str, chosen: Look) -> tuple[tuple[Evidence, ...], Path]:
    """Writes the reports of all logs of an experiment into ``folder``, oldest first, and ``index.html`` that lists them.

    Returns:
        What was read, and the list's file.

    Raises:
        NotFoundError: If there is no such experiment, or none of its runs has a log.
    """
    logs = tuple(evidence for run_id in _runs(name) for evidence in audit.read(run_id))
    if not logs:
        raise NotFoundError(f"no run of experiment {name} has a log")
    names: dict[str, Evidence] = {}
    for evidence in logs:
        file = _name(evidence, format)
        names[file if file not in names else f"{evidence.record.run_id[:8]}-{file}"] = evidence
    for file, evidence in names.items():
        tuple(_report(Path(folder) / file, evidence, format, chosen))
    entries = (listed(file, evidence) for file, evidence in names.items())
    return logs, _written(Path(folder) / "index.html", index(f"Logs of {name}", entries))


def exported_form(path: Path) -> Path:
    """Writes the DOCX form of this package; a file that is there already is somebody's own, and stays.

    Raises:
        InputError: If the extra ``docx`` is missing, or the file is there or cannot be written.
    """
    checked("docx")
    from mlflow_aifsm.report.docx_form import form

    if path.exists():
        raise InputError(f"{path} is there already", remedy="name another file with -o")
    return _written(path, form())


def _runs(experiment: str) -> Iterator[str]:
    """Ids of the runs of an experiment that finished a log, oldest first."""
    database_exists()
    wanted = {keys.tag(log, "record_sha256") for log in LOGS}
    return (str(run.info.run_id) for run in search.runs(search.experiments([experiment])) if wanted & run.data.tags.keys())


def _name(evidence: Evidence, ending: str) -> str:
    """A log's id as the name of a file that stays in its folder, whatever the id holds."""
    return f"{NOT_IN_NAMES.sub('_', evidence.record.log_id).lstrip('.') or 'log'}.{ending}"


def _paths(logs: Sequence[Evidence], ending: str, output: str | Path | None) -> list[Path]:
    named = [_name(evidence, ending) for evidence in logs]
    if output is None:
        return [Path(name) for name in named]
    given = Path(output)
    if given.is_dir() or str(output).endswith("/"):
        return [given / name for name in named]
    return [given, *(given.with_name(f"{given.stem}-{evidence.record.template.log}{given.suffix}") for evidence in logs[1:])]


def _written(path: Path, content: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", remedy="name another place with -o") from error
    return path
