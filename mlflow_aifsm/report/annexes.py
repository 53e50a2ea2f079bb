"""The annexes after section 5: the evidence behind the table, so that the template's own part stays recognisable."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_aifsm.facts import Finding
from mlflow_aifsm.record import Check, Evidence, Record
from mlflow_aifsm.report.annex_environment import environment, tool_notes
from mlflow_aifsm.report.annex_layers import layers
from mlflow_aifsm.report.annex_plots import figures
from mlflow_aifsm.report.annex_review import review
from mlflow_aifsm.report.annex_tables import plain_table
from mlflow_aifsm.report.annex_verification import verification
from mlflow_aifsm.report.blocks import Badge, Block, Cell, Heading, Items, Mark, Row, Table, Text
from mlflow_aifsm.report.cells import finding_notice, gap, remedy
from mlflow_aifsm.report.words import code, line, quiet, strong


def annexes(evidence: Evidence) -> tuple[Block, ...]:
    """All annexes, A to F; an empty part says why it is empty."""
    parts = (
        ("Verification", verification(evidence.record)),
        ("Quantizers and sparsity by layer", (*layers(evidence), *figures(evidence))),
        ("Environment, packages and tool validation", environment(evidence.record)),
        ("Manifest and chain", _manifest(evidence)),
        ("Gaps, findings and notes", (*_gaps(evidence), *_notes(evidence.record))),
        ("Review and signatures", review(evidence)),
    )
    blocks: list[Block] = []
    for letter, (title, content) in zip("ABCDEF", parts, strict=True):
        blocks += [Heading(1, f"Annex {letter}", Text(title), new_page=letter == "A"), *content]
    return tuple(blocks)


def _manifest(evidence: Evidence) -> Iterable[Block]:
    record = evidence.record
    yield Heading(2, "", Text("Record"))
    yield line("SHA-256 of", code("record.json"), "as it is stored:", code(evidence.sha256))
    if record.supersedes is not None:
        yield line("Supersedes the record", code(record.supersedes.sha256), "of run", code(record.supersedes.run_id))
    for title, files, digest in (
        ("Input files", record.input_files, record.input_sha256),
        ("Delivered files", record.output_files, record.output_sha256),
    ):
        yield Heading(2, "", Text(title))
        rows = tuple((file.path, f"{file.size:,}", file.sha256) for file in files)
        yield (
            plain_table(("File", "Bytes", "SHA-256"), rows, (25, 11, 64), codes=(2,)) if rows else line("No file was recorded.")
        )
        of = "the set" if rows or not digest else "the model as it was given"
        yield line(f"SHA-256 of {of}:", code(digest) if digest else strong("not recorded"))
    yield Heading(2, "", Text("Looked at again"))
    yield from _checks(evidence.checks)


def _checks(checks: tuple[Check, ...]) -> Iterable[Block]:
    if not checks:
        yield line("Nothing was looked at again when this document was made.")
        return
    rows = tuple(
        Row(tuple(Cell((part,)) for part in (line(check.what), line(_outcome(check)), line(check.detail)))) for check in checks
    )
    yield Table((Text("What"), Text("Outcome"), Text("Seen")), rows, widths=(27, 14, 59))


def _outcome(check: Check) -> Badge:
    words = {True: ("holds", Mark.GOOD), False: ("broken", Mark.BAD), None: ("undecided", Mark.NEUTRAL)}
    return Badge(*words[check.holds])


def _gaps(evidence: Evidence) -> Iterable[Block]:
    record = evidence.record
    yield Heading(2, "", Text("Gaps"))
    rows = tuple(_gap_row(record, key, evidence.target) for key in (row.key for row in record.gaps))
    total = len(record.template.counted)
    yield (
        Table((Text("Field"), Text("Why, and the line that fills it")), rows, widths=(30, 70))
        if rows
        else line(f"None: all {total} fields that the template asks for are answered.")
    )
    yield from _open_rows(record)
    yield Heading(2, "", Text("Findings"))
    found = tuple(_finding_row(record, finding, evidence.target) for finding in record.findings)
    yield Table((Text("Field"), Text("Finding")), found, widths=(30, 70)) if found else line("None.")


def _gap_row(record: Record, key: str, target: str) -> Row:
    row, entry = record.template.field(key), record.entries[key]
    return Row((_named(record, key), Cell((line(gap(row, entry)), line(code(remedy(row, entry, target)))))))


def _finding_row(record: Record, finding: Finding, target: str) -> Row:
    row = record.template.field(finding.field)
    return Row((_named(record, finding.field), Cell((finding_notice(finding, row, target),))))


def _named(record: Record, key: str) -> Cell:
    return Cell((line(record.template.field(key).label), line(code(key))))


def _open_rows(record: Record) -> Iterable[Block]:
    rows = [row.label for row in record.template.fields if row.open_row and not record.entries[row.key].answers(row)]
    if rows:
        yield line(quiet(f"Open rows without an answer, which the template only invites: {', '.join(rows)}."))


def _notes(record: Record) -> Iterable[Block]:
    yield Heading(2, "", Text("Notes"))
    elsewhere = tool_notes(record)
    notes = tuple(line(note) for note in record.notes if note not in elsewhere)
    yield Items(notes) if notes else line("No note was made.")
