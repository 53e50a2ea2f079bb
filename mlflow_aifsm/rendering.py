"""A target into files a person opens."""

from __future__ import annotations

from pathlib import Path

from mlflow_aifsm import audit
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report.formats import WRITERS, write


def render_report(
    target: str, format: str = "html", output: str | Path | None = None, log: str | None = None
) -> tuple[Path, ...]:
    """Writes the report of each log that ``target`` has, conversion before optimization.

    Args:
        target: Run id, ``runs:/`` or ``models:/`` URI, model folder, or delivered file.
        format: ``html``, ``md`` or ``json``.
        output: File to write, or folder; ``<log id>.<format>`` in the working folder if None. Where a target has two logs and a
            file is named, the second one gets ``-optimization`` in its name.
        log: ``conversion`` or ``optimization`` to write only that one.

    Returns:
        The files that were written.

    Raises:
        InputError: If the format is unknown.
        NotFoundError: If there is no such target, or it has no log.
        TrackingError: If MLflow cannot be reached, or the file cannot be written.
    """
    checked_format(format)
    return rendered(audit.read(target, log), format, output)


def checked_format(format: str) -> None:
    """Refuses a format that nothing writes, before anything is read.

    Raises:
        InputError: If there is no such format.
    """
    if format not in WRITERS:
        raise InputError(f"report format '{format}'", expected=", ".join(WRITERS))


def streamed(logs: tuple[Evidence, ...], format: str) -> bytes:
    """The reports one after the other, for a pipe."""
    return b"\n".join(write(evidence, format) for evidence in logs)


def rendered(logs: tuple[Evidence, ...], format: str, output: str | Path | None) -> tuple[Path, ...]:
    """Writes the reports of evidence that was read already; see ``render_report``."""
    return tuple(
        _written(path, write(evidence, format)) for path, evidence in zip(_paths(logs, format, output), logs, strict=True)
    )


def _paths(logs: tuple[Evidence, ...], format: str, output: str | Path | None) -> list[Path]:
    named = [f"{evidence.record.log_id}.{format}" for evidence in logs]
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
