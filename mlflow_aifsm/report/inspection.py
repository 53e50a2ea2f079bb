"""What a model file is, in ten lines: the text and the data of ``mlflow-aifsm inspect``, drawn from facts alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mlflow_aifsm.codec import unstructure
from mlflow_aifsm.digests import FileDigest
from mlflow_aifsm.facts import Fact, Facts, Finding, Json, State
from mlflow_aifsm.fill import fill
from mlflow_aifsm.report.terminal import laid_out
from mlflow_aifsm.template import LOGS, load

QUANTIZED = (
    ("Precision", "quantizers.precision"),
    ("Scheme", "quantizers.scheme"),
    ("Granularity", "quantizers.granularity"),
    ("Left in float", "quantizers.float_layers"),
    ("Run in integers", "runtime.integer_operators"),
    ("Lost functions", "quantizers.lost_non_linearities"),
)
"""Lines on a quantized file: heading and fact."""

TRAINING_ONLY = (
    ("Dropout", "graph.dropout"),
    ("Batch Normalization", "graph.batch_normalization"),
    ("Gradient Clipping", "graph.gradient_clipping"),
    ("Learning Rate Scheduling", "graph.lr_scheduling"),
    ("Weight Regularization", "graph.weight_regularization"),
    ("other", "graph.other"),
)
"""The eliminations in the order of the Model Conversion Log."""

COLUMN = 17


def inspection(facts: Iterable[Fact], name: str, sha256: str) -> str:
    """Ten readable lines on one file, then one line for each finding, marked ``!``; ends without a newline.

    Args:
        facts: What was measured on the file.
        name: How the file is called.
        sha256: Digest of its file set.
    """
    known = Facts().with_facts(facts)
    rows = [("File", f"{name} (sha256 {sha256[:12]}…)"), ("Format", _format(known)), *_quantization(known)]
    rows += [
        ("Training-only", _training_only(known)),
        ("Zeros", _said(known, "zeros.ratio")),
        ("Size", _said(known, "graph.size")),
    ]
    rows += [("Answers", "; ".join(_answers(known)))]
    rows += [("!", _marked(finding)) for finding in _findings(known)]
    return "\n".join(laid_out(((heading, text) for heading, text in rows if text), "", COLUMN))


def inspection_data(
    facts: Iterable[Fact],
    name: str,
    sha256: str,
    files: Iterable[FileDigest] = (),
    tables: Mapping[str, Iterable[Mapping[str, Json]]] | None = None,
) -> dict[str, Json]:
    """The same as plain JSON data, with every fact, file digest and table.

    Args:
        facts: What was measured on the file.
        name: How the file is called.
        sha256: Digest of its file set.
        files: Digests of its files.
        tables: Rows of its tables by name.
    """
    known = Facts().with_facts(facts)
    return {
        "file": name,
        "sha256": sha256,
        "files": [unstructure(file) for file in files],
        "facts": {fact.name: unstructure(fact) for fact in known.by_name.values()},
        "findings": [unstructure(finding) for finding in _findings(known)],
        "answered": {log: _answered(known, log) for log in LOGS},
        "tables": {table: [dict(row) for row in rows] for table, rows in (tables or {}).items()},
    }


def _format(known: Facts) -> str:
    return ", ".join(text for name in ("graph.opset", "graph.producer", "graph.inputs") if (text := _said(known, name)))


def _quantization(known: Facts) -> list[tuple[str, str]]:
    """A float file gets one line, not six that say they do not apply."""
    precision = known.get("quantizers.precision")
    if precision is not None and precision.state is State.NOT_APPLICABLE:
        return [("Not quantized", precision.reason), ("Operators", _said(known, "graph.operators"))]
    return [(heading, _said(known, name)) for heading, name in QUANTIZED]


def _said(known: Facts, name: str) -> str:
    fact = known.get(name)
    if fact is None:
        return ""
    return fact.value.text if fact.state.strength else f"{fact.state}: {fact.reason}"


def _training_only(known: Facts) -> str:
    by_outcome: dict[str, list[str]] = {}
    for label, name in TRAINING_ONLY:
        if (fact := known.get(name)) is not None:
            by_outcome.setdefault(fact.value.brief or str(fact.state), []).append(label)
    return "; ".join(f"{outcome}: {', '.join(labels)}" for outcome, labels in by_outcome.items())


def _answers(known: Facts) -> list[str]:
    counts = {load(log).title: _answered(known, log) for log in LOGS}
    return [f"{count['answered']} of {count['fields']} fields of the {title}{_apart(count)}" for title, count in counts.items()]


def _apart(count: Mapping[str, int]) -> str:
    return f" ({count['not_applicable']} as not applicable)" if count["not_applicable"] else ""


def _answered(known: Facts, log: str) -> dict[str, int]:
    template = load(log)
    entries = fill(template, known)
    answered = [entries[row.key] for row in template.counted if entries[row.key].answers(row)]
    aside = sum(entry.state is State.NOT_APPLICABLE for entry in answered)
    return {"answered": len(answered), "not_applicable": aside, "fields": len(template.counted)}


def _findings(known: Facts) -> list[Finding]:
    return [finding for fact in known.by_name.values() for finding in fact.findings]


def _marked(finding: Finding) -> str:
    return f"{finding.code}: {finding.measured} ({finding.effect})"
