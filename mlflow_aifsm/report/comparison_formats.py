"""A comparison as a document: HTML with its plots in it, Markdown, JSON."""

from __future__ import annotations

from mlflow_aifsm.codec import dumps
from mlflow_aifsm.facts import Json
from mlflow_aifsm.report import markdown
from mlflow_aifsm.report.blocks import Text
from mlflow_aifsm.report.comparison import Comparison, Row
from mlflow_aifsm.report.comparison_document import ROWS, blocks
from mlflow_aifsm.report.html import page


def html(made: Comparison) -> bytes:
    """One file that runs nothing and fetches nothing, with plots of all rows; tables have `ROWS` rows at most."""
    parts = tuple(blocks(made.shortened(ROWS), plots_of=made))
    return page("comparison.html.j2", title=Text(made.title), blocks=parts)


def md(made: Comparison) -> bytes:
    """Markdown that renders on GitHub, without plots; tables have `ROWS` rows at most."""
    return markdown.page(Text(made.title), blocks(made.shortened(ROWS)))


def json(made: Comparison) -> bytes:
    """All rows as JSON: what was measured in the numbers that MLflow holds, differences in the same units."""
    content = {
        "title": made.title,
        "baseline": made.rows[made.baseline].name,
        "quality": made.quality,
        "differing": list(made.differing),
        "numbers": list(made.numbers),
        "same": dict(made.same),
        "warnings": list(made.warnings),
        "rows": [_row(made, row) for row in made.rows],
    }
    return dumps(content)


def _row(made: Comparison, row: Row) -> Json:
    deltas = {name: change for name in row.numbers if (change := made.delta(row, name)) is not None}
    identity = {
        name: getattr(row, name) for name in ("number", "name", "run_id", "log", "log_id", "status", "version", "group", "best")
    }
    return {**identity, "categories": dict(row.categories), "values": dict(row.numbers), "deltas": deltas}
