"""The validation record as a document for the assessor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mlflow_aifsm.report import html
from mlflow_aifsm.report.annex_tables import plain_table
from mlflow_aifsm.report.blocks import Badge, Block, Cell, Cover, Document, Heading, Mark, Paragraph, Role, Row, Table, Text
from mlflow_aifsm.report.words import code, date, line, quiet, readable, spaced, strong
from mlflow_aifsm.validation.record import Outcome, ValidationRecord

TITLE = "Tool Validation Record"
METHOD = """\
Each fault is injected into a network that is trained on the spot, and made with real parts: PyTorch's exporter, NNCF, ONNX \
Runtime, MLflow with a database of its own. The log is then made and read with the tool's own verbs, as users do it. A fault \
is caught if the tool says what is expected of it, for the expected reason. A good model is not accused if its verification \
passes and the tool finds nothing. A trial that breaks off counts as not passed."""
MEANINGS = {
    True: "Every fault was caught, and no good model was accused.",
    False: "A fault was missed, or a good model was accused: what this tool does not find here may be there.",
}


def page(record: ValidationRecord) -> bytes:
    """The record as one self-contained HTML file."""
    return html.render(document(record))


def document(record: ValidationRecord) -> Document:
    """The record as blocks."""
    return Document(
        title=Text(f"{TITLE} {record.tool}"),
        header=Text(f"{TITLE} · {record.tool} · {date(record.made_at, '%Y-%m-%d')}"),
        footer=Text(f"{TITLE} · environment sha256 {record.environment_sha256}"),
        cover=_cover(record),
        blocks=tuple(_blocks(record)),
    )


def _cover(record: ValidationRecord) -> Cover:
    pairs = (
        ("Tool", Text(record.tool)),
        ("Files of the tool, SHA-256", code(record.tool_sha256)),
        ("Manual", Text(record.manual)),
        ("Begun", Text(date(record.made_at, "%Y-%m-%d %H:%M %z"))),
        ("Duration", Text(f"{record.seconds:.0f} seconds")),
        ("Environment SHA-256", code(record.environment_sha256)),
    )
    return Cover(
        organisation=Text("mlflow-aifsm"),
        project=Text("supports IEC 61508-3 7.4.4.7"),
        title=Text(TITLE),
        subject=Text(record.tool),
        status=Badge(record.verdict, Mark.GOOD if record.passed else Mark.BAD),
        state=tuple(Text(part) for part in record.summary.split(" · ")),
        meaning=Text(MEANINGS[record.passed]),
        notices=(),
        pairs=tuple((Text(name), value) for name, value in pairs),
    )


def _blocks(record: ValidationRecord) -> Iterator[Block]:
    yield Heading(1, "1", Text("Method"))
    yield line(METHOD)
    yield Heading(1, "2", Text("Faults injected"))
    yield _table("Fault", record.faults)
    yield Heading(1, "3", Text("Good models"))
    yield _table("Model", record.good_models)
    yield Heading(1, "4", Text("Environment"))
    host = ((spaced(name).capitalize(), readable(value)) for name, value in record.host.items())
    yield plain_table(("Point", "Value"), tuple(host), widths=(30, 70))
    yield Heading(1, "5", Text("Packages"))
    yield plain_table(("Package", "Version"), tuple(record.packages.items()), widths=(60, 40))


def _table(first: str, outcomes: Iterable[Outcome]) -> Table:
    columns = tuple(Text(name) for name in (first, "Expected", "Found", "Outcome"))
    return Table(columns, tuple(_rows(outcomes)), widths=(34, 22, 30, 14))


def _rows(outcomes: Iterable[Outcome]) -> Iterator[Row]:
    group = ""
    for one in outcomes:
        if one.group != group:
            group = one.group
            yield Row((Cell((line(group.capitalize()),)),), Role.GROUP)
        yield Row((_what(one), Cell((line(one.expected),)), _found(one), _outcome(one)))


def _what(one: Outcome) -> Cell:
    source = (line(quiet(f"Source: {one.source}"), role=Role.META),) if one.source else ()
    return Cell((line(strong(one.name)), line(one.about), *source))


def _found(one: Outcome) -> Cell:
    return Cell(tuple(line(words) for words in one.found) or (line("nothing"),))


def _outcome(one: Outcome) -> Cell:
    badge = Badge("pass", Mark.GOOD) if one.passed else Badge("fail", Mark.BAD)
    when: Paragraph = line(quiet(f"{date(one.at, '%H:%M:%S')}, {one.seconds:.1f} s"), role=Role.META)
    return Cell((line(badge), when))
