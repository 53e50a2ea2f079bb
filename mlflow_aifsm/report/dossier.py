"""Several logs as one document: the way of a model from the verified one to the one that is delivered, in its order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mlflow_aifsm.record import Evidence, Status
from mlflow_aifsm.report.blocks import Block, Cell, Cover, Document, Heading, Mark, Notice, Row, Table, Text
from mlflow_aifsm.report.cover import document_id
from mlflow_aifsm.report.document import document, earlier_log
from mlflow_aifsm.report.words import code, line, status_badge, strong

TITLE = "Dossier"


def dossier(logs: Sequence[Evidence]) -> Document:
    """One document of ``logs``, each a part of its own with all its sections, behind one cover and one table of contents.

    Args:
        logs: At least one log, in the order of the work.
    """
    made = [document(evidence) for evidence in logs]
    last, names = made[-1], ", ".join(evidence.record.log_id for evidence in logs)
    blocks = tuple(block for number, part in enumerate(made, start=1) for block in _part(number, part))
    return Document(
        title=Text(f"{TITLE} {names}"),
        header=Text(f"{TITLE} · {names}"),
        footer=Text(f"{TITLE} of {_counted(len(logs))} · each part names the digest of its record"),
        cover=_cover(logs, made),
        blocks=blocks,
        author=last.author,
        made_at=last.made_at,
        fields={key: words for part in made for key, words in part.fields.items()},
        contents=True,
    )


def _counted(count: int) -> str:
    return f"{count} log{'' if count == 1 else 's'}"


def _cover(logs: Sequence[Evidence], made: Sequence[Document]) -> Cover:
    last = made[-1].cover
    gravest = max((evidence.status for evidence in logs), key=list(Status).index)
    states = tuple(Text(f"{evidence.record.log_id}: {evidence.status}") for evidence in logs)
    pairs = [(Text(f"Part {number}"), Text(_named(evidence))) for number, evidence in enumerate(logs, start=1)]
    kept = [pair for pair in last.pairs if pair[0].text in ("Project", "Organisation", "Rev.", "Ref.", "Date")]
    return replace(
        last,
        title=Text(TITLE),
        status=status_badge(gravest),
        meaning=Text(f"The status of {_counted(len(logs))} is that of the gravest; each part begins with its own."),
        state=states,
        notices=(*_missing(logs), *(notice for part in made for notice in part.cover.notices)),
        pairs=(*kept, *pairs),
    )


def _missing(logs: Sequence[Evidence]) -> Iterator[Notice]:
    """What the chain lacks: a log that is named as the one before, and that delivered none of the inputs here."""
    delivered = set[str]()
    for record in (evidence.record for evidence in logs):
        earlier = earlier_log(record)
        if earlier and record.input_sha256 not in delivered:
            digest = (", delivered with sha256", code(record.input_sha256)) if record.input_sha256 else ()
            missing = line(strong("Not found:"), f"the log {earlier}", *digest, f", which {record.log_id} began with.")
            yield Notice(Mark.BAD, (missing,))
        delivered.add(record.output_sha256)


def _named(evidence: Evidence) -> str:
    record = evidence.record
    return f"{record.template.title} {record.log_id}, document {document_id(record)}"


def _part(number: int, made: Document) -> Iterator[Block]:
    """A log's cover as a heading, its status and its names; then all of it, one level down."""
    cover = made.cover
    yield Heading(1, f"Part {number}", Text(made.title.text), new_page=True)
    state = line(" · ".join(part.text for part in cover.state))
    yield Notice(cover.status.mark, (line(cover.status, strong(cover.subject.text)), line(cover.meaning), state))
    yield from cover.notices
    rows = tuple(Row((Cell((line(name),)), Cell((line(value),)))) for name, value in cover.pairs)
    yield Table((Text("Document"), Text("Value")), rows, widths=(24, 76))
    yield from (replace(block, level=block.level + 1) if isinstance(block, Heading) else block for block in made.blocks)
