"""A conversion done again, in a process of its own: does it give the same bytes, and the same canonical digest?

The canonical digest leaves metadata out, so it may agree where the bytes do not. EASA CM-01 asks for reproducibility.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow_aifsm.operations.configs as kinds
from mlflow_aifsm import lineage, scratch
from mlflow_aifsm.errors import AifsmError
from mlflow_aifsm.facts import Json
from mlflow_aifsm.measurement import measure
from mlflow_aifsm.operations import sources
from mlflow_aifsm.operations.freeze import exported_file
from mlflow_aifsm.record import Check, Evidence, Record

TIMEOUT = 3600
"""Seconds after which a second conversion is given up."""


def with_reproduction(evidence: Evidence) -> Evidence:
    """``evidence`` with the checks of a second conversion."""
    return replace(evidence, checks=(*evidence.checks, *reproduced(evidence.record)))


def reproduced(record: Record) -> tuple[Check, ...]:
    """Converts again what ``record`` says was converted, and compares bytes and canonical digest with the record.

    Returns:
        One check for the bytes and one for the canonical digest; one that could not be looked at where nothing can be replayed.
    """
    what = "second conversion in a new process"
    if record.template.log != "conversion":
        return (Check(what, None, "only conversions are done again"),)
    call = record.entries["aifsm.conversion.converter"].value.data
    replay = call.get("config") if isinstance(call, dict) else None
    if not isinstance(replay, dict):
        return (Check(what, None, "the source model or its example was not in MLflow, so there is nothing to convert again"),)
    done = _converted(replay)
    return _compared(record, Path(done)) if Path(done).is_file() else (Check(what, False, done),)


def _converted(replay: dict[str, Json]) -> str:
    """Path of the file that the new process made, or why it made none."""
    folder = scratch.folder()
    command = [sys.executable, "-m", __name__, json.dumps(replay), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"given up after {TIMEOUT} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return lines[-1] if lines else f"ended with exit code {done.returncode}"


def _compared(record: Record, path: Path) -> tuple[Check, ...]:
    again = measure(path)
    before = _canonical(record)
    after = next((fact.value.data for fact in again.facts if fact.name == "graph.canonical_digest"), None)
    same = again.sha256 == record.output_sha256
    bytes_seen = f"sha256 {again.sha256}" + ("" if same else f", recorded {record.output_sha256}")
    return (
        Check("second conversion in a new process, bytes", same, bytes_seen),
        Check("second conversion in a new process, canonical digest", before == after if before else None, f"sha256 {after}"),
    )


def _canonical(record: Record) -> Json:
    facts = {fact.name: fact for entry in record.entries.values() for fact in entry.beside}
    return facts["graph.canonical_digest"].value.data if "graph.canonical_digest" in facts else None


def main(replay: dict[str, Any], folder: Path) -> Path:
    """Converts once, without a log, and returns the file; what the new process runs.

    Raises:
        AifsmError: If the model is gone, or cannot be converted.
    """
    asked = getattr(kinds, replay["kind"])(**replay["settings"])
    source = sources.opened(replay["model"], None, lineage.resolve(replay["model"]))
    made = exported_file(source, asked).path
    for part in made.parent.iterdir():  # weights may lie beside it
        shutil.move(part, folder)
    return folder / made.name


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{main(json.loads(sys.argv[1]), Path(sys.argv[2]))}\n")
    except AifsmError as error:
        sys.exit(str(error))
