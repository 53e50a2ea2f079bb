"""A conversion done again, in a process of its own: does it give the same bytes, and the same canonical digest?

The canonical digest leaves metadata out, so it may agree where the bytes do not. EASA CM-01 asks for reproducibility. Another
result is a finding about the conversion; that nobody changed what was logged is another question, which the checks answer.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlflow_aifsm import lineage, scratch
from mlflow_aifsm.capture.environment import packages
from mlflow_aifsm.errors import AifsmError, InputError
from mlflow_aifsm.facts import Finding, Json
from mlflow_aifsm.measurement import measure
from mlflow_aifsm.operations import config_files, sources
from mlflow_aifsm.operations.configs import Onnx, Pt2
from mlflow_aifsm.operations.freeze import exported_file
from mlflow_aifsm.record import Check, Evidence, Record
from mlflow_aifsm.tracking.keys import RECORD

TIMEOUT = 3600
"""Seconds after which a second conversion is given up."""
NOT_REPRODUCED = "not_reproduced"
"""Code of the finding that a second conversion gave another model."""

_CONVERTER = "aifsm.conversion.converter"
_PACKAGES = "aifsm.conversion.packages"
_WHAT = "second conversion in a new process"


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What a second conversion showed: checks, and a finding where it gave another model."""

    checks: tuple[Check, ...]
    findings: tuple[Finding, ...] = ()


def with_reproduction(evidence: Evidence) -> Evidence:
    """``evidence`` with the checks of a second conversion, and its finding laid onto the field that names the converter."""
    again = reproduced(evidence.record)
    return replace(evidence, record=_with(evidence.record, again.findings), checks=(*evidence.checks, *again.checks))


def reproduced(record: Record) -> Reproduction:
    """Converts again what ``record`` says was converted, and compares bytes and canonical digest with the record.

    Returns:
        One check for the bytes and one for the canonical digest, which hold or decide nothing, and the finding
        ``not_reproduced`` where the model is another; a single check with the reason where nothing could be converted.
    """
    if record.template.log != "conversion":
        return _undone("only conversions are done again")
    if not record.output_sha256:
        return _undone("the log delivered no file to compare with")
    call = record.entries[_CONVERTER].value.data
    replay = call.get("config") if isinstance(call, dict) else None
    if not isinstance(replay, dict):
        return _undone("the source model or its example was not in MLflow, so there is nothing to convert again")
    done = _converted(replay)
    return _undone(done) if isinstance(done, str) else _compared(record, done)


def _undone(reason: str) -> Reproduction:
    return Reproduction((Check(_WHAT, None, reason),))


def _with(record: Record, findings: tuple[Finding, ...]) -> Record:
    if not findings:
        return record
    entry = record.entries[_CONVERTER]
    return replace(record, entries={**record.entries, _CONVERTER: replace(entry, findings=(*entry.findings, *findings))})


def _converted(replay: dict[str, Json]) -> Path | str:
    """The file that the new process made, or why it made none."""
    folder = scratch.folder()
    command = [sys.executable, "-m", __name__, json.dumps(replay), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"given up after {TIMEOUT} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    if done.returncode == 0 and lines:
        return Path(lines[-1])
    # a process that was killed leaves its last warning behind, which is not the reason
    return lines[-1] if lines and done.returncode > 0 else f"it ended with exit code {done.returncode}"


def _compared(record: Record, path: Path) -> Reproduction:
    again, before = measure(path), _canonical(record)
    after = next((fact.value.data for fact in again.facts if fact.name == "graph.canonical_digest"), None)
    same, equal = again.sha256 == record.output_sha256, before == after if before else None
    metadata = "; the canonical digest, which leaves metadata out, is the same" if equal and not same else ""
    checks = (
        Check(f"{_WHAT}, bytes", same or None, _seen(again.sha256, record.output_sha256, same=same) + metadata),
        Check(f"{_WHAT}, canonical digest", equal or None, _seen(after, before, same=equal)),
    )
    if same or equal:
        return Reproduction(checks)
    asked, found = (record.output_sha256, again.sha256) if equal is None else (before, after)
    finding = Finding(NOT_REPRODUCED, _CONVERTER, f"sha256 {asked}", f"sha256 {found}", _effect(record))
    return Reproduction(checks, (finding,))


def _seen(found: Json, recorded: Json, *, same: bool | None) -> str:
    return f"sha256 {found}" + ("" if same else f", recorded {recorded}" if recorded else ", none recorded")


def _canonical(record: Record) -> Json:
    facts = {fact.name: fact for entry in record.entries.values() for fact in entry.beside}
    return facts["graph.canonical_digest"].value.data if "graph.canonical_digest" in facts else None


def _effect(record: Record) -> str:
    """What another result means, with the versions that may be its cause."""
    effect = "the conversion, done again, gives another model"
    then = record.entries[_PACKAGES].value.data
    if not isinstance(then, dict):
        return f"{effect}; the record holds no package versions to compare with"
    now = packages(then)
    changed = [f"{name} {then[name]}, now {now.get(name, 'not installed')}" for name in then if now.get(name) != then[name]]
    return f"{effect}; versions that differ: {'; '.join(changed)}" if changed else f"{effect} with the same package versions"


def main(replay: dict[str, Any], folder: Path) -> Path:
    """Converts once, without a log, and returns the file; what the new process runs.

    Raises:
        AifsmError: If the model is gone, or cannot be converted.
    """
    asked = config_files.made(replay["kind"], replay["settings"], RECORD)
    if not isinstance(asked, Onnx | Pt2):
        raise InputError(f"{RECORD} holds no config of a conversion", got=replay["kind"], expected="Onnx or Pt2")
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
