"""What a terminal gets: nothing longer than a narrow one but commands, and those in one piece."""

from __future__ import annotations

import pytest

from mlflow_aifsm.record import Evidence
from mlflow_aifsm.report.checklist import checklist
from mlflow_aifsm.report.summary import summary
from mlflow_aifsm.report.terminal import NARROW, WIDTH, laid_out
from tests.report import samples


def test_only_commands_are_longer_than_a_narrow_terminal(evidence: Evidence) -> None:
    for text in (checklist(evidence), summary(evidence.record, "models:/m-1", "models:/digits/4")):
        assert [line for line in text.splitlines() if len(line) > WIDTH and "mlflow-aifsm " not in line] == []


@pytest.mark.parametrize(("columns", "most"), [(200, WIDTH), (80, 80), (20, NARROW)])
def test_lines_keep_to_the_terminal_and_grow_no_longer_than_one_reads(
    columns: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lengths = [len(line) for line in laid_out([("log", "word " * 100)], "  ", 14)]
    assert most - len("word ") <= max(lengths) <= most


def test_the_checklist_gives_the_line_that_fills_each_gap_and_settles_each_finding_whole() -> None:
    lines = [line.strip() for line in checklist(samples.conversion_with_gaps()).splitlines()]
    for key in ("aifsm.conversion.packages", "aifsm.conversion.responsible"):
        assert f"mlflow-aifsm declare runs:/{samples.RUN} {key}='…' --by 'NAME'" in lines


def test_a_finding_is_told_with_what_it_means() -> None:
    words = " ".join(checklist(samples.conversion_with_gaps()).split())
    assert "found Dropout node 'node_dropout_4' with training_mode = true; outputs change from run to run" in words


def test_text_wraps_under_itself_and_no_digest_is_torn_from_its_name() -> None:
    text = f"{'word ' * 12}sha256 {'ab' * 32} holds"
    lines = laid_out([("checked", text), ("", "")], "  ", 10)
    assert lines[0].startswith("  checked   word")
    assert lines[1] == f"{' ' * 12}sha256 {'ab' * 32} holds"
