"""The record that ``tests/data/record-v1.json`` holds: small, with every state, a finding, and every optional part.

Readers of the future must read that file, so it is never made anew; this module only says what it must mean.
"""

from __future__ import annotations

from mlflow_aifsm.digests import FileDigest
from mlflow_aifsm.facts import Fact, Finding, Source, State, Value
from mlflow_aifsm.record import Entry, Record, Supersedes, VerificationResult
from mlflow_aifsm.template import Field, Section, Template

ZEROS, ONES = "0" * 64, "1" * 64


def row(key: str, label: str, fact: str, basis: State, log_as: str = "param", **more: object) -> Field:
    """A row with the words that do not matter here."""
    words = {"filled_by": "the test", "remedy": f"mlflow-aifsm declare {{target}} {key}='…' --by 'NAME'", "clause": "none"}
    return Field(key, label, fact, basis, log_as, **{**words, **more})  # type: ignore[arg-type]


def golden_record() -> Record:
    """A conversion of six rows: measured with asked and a finding, captured, declared, not applicable, not recorded, open."""
    return Record(
        template=_template(),
        log_id="digits_3-MC-0a1b2c3d",
        run_id="0a1b2c3d4e5f60718293a4b5c6d7e8f9",
        made_at="2026-11-20T15:01:40+01:00",
        tool="mlflow-aifsm 0.1.0",
        entries=_entries(),
        subject="digits, version 3 (名前 \udcff)",
        input_sha256=ZEROS,
        output_sha256=ONES,
        input_files=(FileDigest("model.pt2", 10, ZEROS),),
        output_files=(FileDigest("model.onnx", 2_000_000_000, ONES),),
        verification=_verification(),
        notes=("opset 13 became 18\n\tand said so",),
        cover={"project": "Kerbside Digit Reader", "rev": "B"},
        supersedes=Supersedes("ffff2c3d4e5f60718293a4b5c6d7e8f9", ZEROS),
        failure="",
    )


def _template() -> Template:
    head = Section("", (row("aifsm.conversion.date", "Date", "log.date", State.CAPTURED, "tag"),))
    middle = Section(
        "Elimination of Training-Specific Operations",
        (
            row(
                "aifsm.elimination.dropout", "Dropout", "graph.dropout", State.MEASURED, beside=("training.dropout",), group="E"
            ),
            row(
                "aifsm.elimination.lr", "Learning Rate Scheduling", "graph.lr_scheduling", State.MEASURED, guidance="<Model_ID>"
            ),
        ),
    )
    tail = Section(
        "Loading and Converting the Verified Learning Model",
        (
            row("aifsm.conversion.opset", "Opset", "graph.opset", State.MEASURED, asked="asked.opset", compare="equal"),
            row("aifsm.conversion.converter", "Converter", "converter.call", State.DECLARED),
            row("aifsm.model.size", "Size", "graph.size", State.MEASURED, "metric", open_row=True),
        ),
    )
    words = (
        "PhIMT0002",
        "conversion",
        "MC",
        "1.0",
        "Model Conversion Log",
        "Objective.",
        "Scope.",
        "Table",
        "Intro:",
        "Table 1.",
    )
    return Template(*words, acronyms=(("AI-FSM", "Functional Safety"),), sections=(head, middle, tail))


def _entries() -> dict[str, Entry]:
    beside = Fact("training.dropout", State.CAPTURED, Value("2 layers, p = 0.5", {"p": [0.5, 0.5]}), Source("DigitsCNN"))
    finding = Finding("asked_not_found", "aifsm.conversion.opset", "13", "18", "the file does not do what was asked for")
    accepted = Finding("note", "aifsm.conversion.opset", open=False)
    data = {"nested": [1, 1.5, True, None, "nan", {"": []}], "big": 2**70, "tiny": 5e-324}
    return {
        "aifsm.conversion.date": Entry(
            State.CAPTURED, Value("2026-11-20"), Source("clock of the host", at="2026-11-20T15:01:40+01:00")
        ),
        "aifsm.elimination.dropout": Entry(
            State.NOT_APPLICABLE, Value("Not applicable", 0), Source("model.onnx"), beside=(beside,), reason="0 Dropout nodes"
        ),
        "aifsm.elimination.lr": Entry(State.NOT_RECORDED, Value(""), Source(""), reason="no file", remedy="give the file"),
        "aifsm.conversion.opset": Entry(
            State.MEASURED, Value("18", 18, "18"), Source("model.onnx"), asked=Value("13", 13), findings=(finding, accepted)
        ),
        "aifsm.conversion.converter": Entry(
            State.DECLARED, Value("tf2onnx", data, "tf2onnx"), Source("declared", by="A. Ito", at="now")
        ),
        "aifsm.model.size": Entry(State.MEASURED, Value("2.0 GB", 2_000_000_000), Source("model.onnx")),
    }


def _verification() -> VerificationResult:
    numbers = {"max_diff": 2.4e-06, "flips": 0, "sqnr_db": "inf"}
    return VerificationResult(
        True, "approximate", "largest difference", 1e-5, "tolerance", 360, "digits", ZEROS, "onnxruntime 1.23", numbers
    )
