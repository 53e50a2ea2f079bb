"""Annex C: where the operation ran, every package with its version, and whether the tool was validated there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from mlflow_aifsm.capture.tool_validation import is_note
from mlflow_aifsm.facts import Fact, Json
from mlflow_aifsm.record import Record
from mlflow_aifsm.report.annex_tables import plain_table
from mlflow_aifsm.report.blocks import Block, Heading, Text
from mlflow_aifsm.report.words import line, readable, spaced

PACKAGES = ("converter.packages", "quantization.packages", "pruning.packages")

ACROSS = 3
"""Packages in a row of the table."""

GIB = 2**30


def environment(record: Record) -> Iterable[Block]:
    """Host and packages, each as a table where the record holds their data, else as it says them; then the tool itself."""
    facts = _facts(record)
    yield Heading(2, "", Text("Environment"))
    yield from _shown(facts.get("environment.host"), _host, "The environment was not recorded.")
    yield Heading(2, "", Text("Packages"))
    found = [facts[name] for name in PACKAGES if name in facts]
    for position, value in enumerate(found):
        if value not in found[:position]:
            yield from _shown(value, _packages, "")
    if not found:
        yield line("No package was recorded.")
    yield Heading(2, "", Text("The tool's own validation"))
    told = tool_notes(record)
    yield from (line(note) for note in told) if told else (line("Whether the tool was validated was not recorded."),)


def tool_notes(record: Record) -> tuple[str, ...]:
    """The notes that tell which tool made the log, and its validation in this environment; they stand in this annex alone."""
    return tuple(note for note in record.notes if is_note(note, record.tool))


def _facts(record: Record) -> dict[str, tuple[str, Json]]:
    """Text and data of each known fact that the entries hold, by the fact's name."""
    facts: dict[str, tuple[str, Json]] = {}
    for row in record.template.fields:
        entry = record.entries[row.key]
        beside = {fact.name: (fact.value.text, fact.value.data) for fact in entry.beside if _is_known(fact)}
        own = {row.fact: (entry.value.text, entry.value.data)} if entry.state.strength else {}
        facts = {**beside, **facts, **own}
    return facts


def _is_known(fact: Fact) -> bool:
    return bool(fact.state.strength)


def _shown(value: tuple[str, Json] | None, table: Callable[[Mapping[str, Json]], Block], absent: str) -> Iterator[Block]:
    if value is None:
        yield line(absent)
    elif isinstance(value[1], dict) and value[1]:
        yield table(value[1])
    else:
        yield line(value[0])


def _host(data: Mapping[str, Json]) -> Block:
    names = (*(name for name in LABELS if name in data), *(name for name in data if name not in LABELS))
    rows = ((LABELS.get(name, spaced(str(name)).capitalize()), _told(name, data[name])) for name in names)
    return plain_table(("Name", "Value"), rows, widths=(30, 70))


def _told(name: str, value: Json) -> str:
    if not value and name in ABSENT:
        return ABSENT[name]
    if name == "memory" and isinstance(value, int):
        return f"{value:,} bytes ({value / GIB:.1f} GiB)"
    if name == "accelerator" and isinstance(value, dict):
        return readable(value.get("text", value))
    if name == "torch" and isinstance(value, dict):
        return ", ".join(_setting(str(key), item) for key, item in sorted(value.items()))
    if isinstance(value, dict):
        return ", ".join(f"{key} {readable(item)}" for key, item in value.items())
    return readable(value)


def _setting(name: str, value: Json) -> str:
    if name == "cuda_of_the_build":
        return f"built {'without CUDA' if value is None else f'for CUDA {readable(value)}'}"
    return f"{spaced(name).replace('cudnn', 'cuDNN')} {readable(value)}"


def _packages(data: Mapping[str, Json]) -> Block:
    """Several packages in a row, in alphabetical order down each column."""
    named = [(str(name), readable(version)) for name, version in sorted(data.items())]
    height = -(-len(named) // ACROSS)
    named += [("", "")] * (height * ACROSS - len(named))
    rows = ([text for column in range(ACROSS) for text in named[row + column * height]] for row in range(height))
    return plain_table(("Package", "Version") * ACROSS, rows, widths=(19, 14) * ACROSS)


LABELS: Mapping[str, str] = {
    "system": "Operating system",
    "distribution": "Distribution",
    "kernel": "Kernel",
    "container": "Container",
    "machine": "Machine",
    "processor": "Processor",
    "cores": "Cores",
    "vector_flags": "Vector instructions",
    "memory": "Memory",
    "accelerator": "Accelerator",
    "python": "Python",
    "implementation": "Python implementation",
    "torch": "PyTorch",
    "variables": "Environment variables",
}
"""What a line of the environment is called, in the order of the table; others follow under their own names."""

ABSENT: Mapping[str, str] = {
    "accelerator": "none found",
    "container": "none found",
    "distribution": "not known",
    "processor": "not known",
    "variables": "none of those that set threads or seeds is set",
    "torch": "not loaded",
}
"""What an empty value means."""
