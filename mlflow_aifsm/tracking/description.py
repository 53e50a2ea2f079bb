"""The description of a run as its page shows it: of both logs that the run may hold, and never in place of a person's own."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_aifsm.digests import sha256_bytes
from mlflow_aifsm.template import LOGS
from mlflow_aifsm.tracking.keys import tag

NOTE = "mlflow.note.content"
"""Tag that MLflow's UI shows, as Markdown, under "Description"."""

NEWEST_FIRST = LOGS[::-1]
"""The page shows the first lines of a description, and what was delivered last is what the run stands for."""

BREAK = "\n\n"

Paragraphs = tuple[str, str, str]
"""What is said of one log, in Markdown."""


def described(held: Mapping[str, str], log: str, paragraphs: Paragraphs) -> dict[str, str]:
    """Tags that put ``paragraphs`` into a run's description, beside what it says of the run's other log.

    The digest of what was written of each log stands in a tag of its own. So a description that somebody wrote, changed or
    deleted is told from ours, and left as it is.

    Args:
        held: All tags of the run.
        log: ``conversion`` or ``optimization``.
        paragraphs: What is said of the log.

    Returns:
        The tags to set; none where the description is somebody's own.
    """
    digests = {key: held[_digest(key)] for key in LOGS if _digest(key) in held}
    written = _written(held.get(NOTE, ""), digests)
    if written.keys() != digests.keys():
        return {}
    written[log] = BREAK.join(paragraphs)
    note = BREAK.join(written[key] for key in NEWEST_FIRST if key in written)
    return {_digest(log): _sha256(written[log]), NOTE: note}


def _written(note: str, digests: Mapping[str, str]) -> dict[str, str]:
    """What ``note`` says of each log, where it is what we wrote; a part that is not gets the name of no log."""
    paragraphs = note.split(BREAK) if note else []
    blocks = [BREAK.join(paragraphs[start : start + 3]) for start in range(0, len(paragraphs), 3)]
    logs = {digest: log for log, digest in digests.items()}
    return {logs.get(_sha256(block), ""): block for block in blocks}


def _digest(log: str) -> str:
    return tag(log, "description_sha256")


def _sha256(text: str) -> str:
    return sha256_bytes(text.encode())
