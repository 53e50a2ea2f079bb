"""Strings that try to break out of a document, put into every field that a run can fill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

from mlflow_aifsm.record import Evidence
from mlflow_aifsm.template import Field, Template
from tests.report import samples

HOSTILE = (
    "<script>window.hacked = 1</script>",
    '"><img src=https://tracker.invalid/a.png onerror="window.hacked = 1">',
    "</style><script>window.hacked = 1</script>",
    "{{ 7 * 7 }}{% raw %}",
    "control \x00\x07\x1b[31m end",
    "lone \ud800 surrogate",
    "override \u202egnp.exe and \u2066isolate",
    "cell | cell\n\n# heading\r\n- [link](https://tracker.invalid) ![i](https://tracker.invalid/i.png)",
    "`` ` `` @octocat #1 GH-2 www.tracker.invalid https://tracker.invalid a@tracker.invalid <!-- --> &lt; &#60;",
    "\\| $x$ ~~gone~~ **bold** __bold__ <b>",
    "x" * 10_000,
)


def evidence(string: str) -> Evidence:
    """A sample with everything in it, each free text replaced by ``string``; the template and what has a grammar stay."""
    sample = samples.optimization_with_findings()
    rows = ({"tensor": string, string or "column": string},)
    made: Evidence = _spoiled(replace(sample, tables={"quantizers": rows, "sparsity": rows}), string)
    return made


def _spoiled(value: Any, string: str) -> Any:
    if isinstance(value, Template | Field | Enum) or value is None:
        return value
    if is_dataclass(value) and not isinstance(value, type):
        kept = ("key", "field", "name", "schema_version") if not hasattr(value, "size") else ()
        inner = {part.name: getattr(value, part.name) for part in fields(value) if part.name not in kept}
        return replace(value, **{name: _spoiled(part, string) for name, part in inner.items()})
    if isinstance(value, Mapping):
        return {key: _spoiled(part, string) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_spoiled(part, string) for part in value)
    return string if isinstance(value, str) else value
