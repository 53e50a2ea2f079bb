"""What a run's page says of its logs, in Markdown, and whose words stay."""

from __future__ import annotations

import mlflow
import pytest
from mlflow import MlflowClient

import mlflow_aifsm as aifsm
from mlflow_aifsm.report.description import LONGEST, description
from mlflow_aifsm.tracking.description import NOTE, described
from mlflow_aifsm.tracking.keys import TAG_LIMIT
from tests.models import Digits
from tests.report import hostile, samples


def frozen(digits: Digits, **where: object) -> aifsm.Result:
    return aifsm.freeze(digits.model, digits.example, aifsm.Onnx(dynamic_shapes="batch"), verified_model="digits_1", **where)


def note(run_id: str) -> str:
    return str(mlflow.get_run(run_id).data.tags.get(NOTE, ""))


def test_a_run_says_in_three_paragraphs_what_it_holds(digits: Digits, experiment: str) -> None:
    judged = aifsm.Verification(aifsm.Data(digits.images, name="held out"), digits.labels)
    result = frozen(digits, verification=judged)
    what, verified, state = note(result.run_id).split("\n\n")
    assert what == f"**Model Conversion Log {result.log_id}:** float32 · ONNX operator set 20, from digits_1"
    assert verified.startswith("Verification passed: ")
    assert verified.endswith("597 samples of held out")
    assert state.startswith("Complete: ")
    assert result.record.state_line in state


def test_of_two_logs_in_a_run_the_description_covers_both(digits: Digits, experiment: str) -> None:
    with mlflow.start_run() as run:
        first = frozen(digits)
        second = aifsm.quantize(first, None, aifsm.Dynamic())
    paragraphs = note(run.info.run_id).split("\n\n")
    assert paragraphs == [*description(second.record), *description(first.record)]
    assert "integer quantization (dynamic)" in paragraphs[0]
    assert mlflow.get_run(run.info.run_id).data.tags["aifsm.precision"] == "uint8 weights, uint8 activations"


def test_a_description_that_was_written_before_stays(digits: Digits, experiment: str) -> None:
    with mlflow.start_run(description="mine") as run:
        frozen(digits)
    tags = mlflow.get_run(run.info.run_id).data.tags
    assert (tags[NOTE], "aifsm.conversion.description_sha256" in tags) == ("mine", False)


def test_a_description_that_is_written_while_the_log_is_made_stays(digits: Digits, experiment: str) -> None:
    with mlflow.start_run() as run, aifsm.record_conversion(verified_model="digits_1"):
        mlflow.set_tag(NOTE, "mine")
    assert note(run.info.run_id) == "mine"


@pytest.mark.parametrize("own", ["edited: {}", "{} ", ""])
def test_a_description_of_ours_that_was_edited_or_deleted_stays(own: str, digits: Digits, experiment: str) -> None:
    with mlflow.start_run() as run:
        first = frozen(digits)
        written = own.format(note(run.info.run_id)) if own else own
        mlflow.set_tag(NOTE, written)
        aifsm.quantize(first, None, aifsm.Dynamic())
    assert note(run.info.run_id) == written


def test_a_declaration_brings_the_description_in_line(digits: Digits, experiment: str) -> None:
    given = frozen(digits)
    with aifsm.record_conversion(verified_model="detector_4") as log:
        log.output(given.path)
    run_id = log.result.run_id
    assert "declared" not in note(run_id)
    aifsm.declare(run_id, "framework", "Vendor 2.1", by="A. Ito")
    assert "1 declared" in note(run_id)


def test_a_log_that_failed_says_why_in_its_run(experiment: str) -> None:
    with pytest.raises(ZeroDivisionError), aifsm.record_conversion(verified_model="detector_4"):
        _ = 1 / 0
    (run,) = MlflowClient().search_runs([experiment])
    assert "Failed: " in run.data.tags[NOTE]
    assert "ZeroDivisionError: division by zero" in run.data.tags[NOTE]
    assert run.data.params == {} or all(key.startswith("aifsm.") for key in run.data.params)


def test_what_is_ours_is_renewed_and_nothing_else() -> None:
    first = described({}, "conversion", ("a", "b", "c"))
    both = first | described(first, "optimization", ("d", "e", "f"))
    again = both | described(both, "conversion", ("g", "h", "i"))
    assert [tags[NOTE].replace("\n\n", "") for tags in (first, both, again)] == ["abc", "defabc", "defghi"]
    for own in ("own", "", f"{both[NOTE]}\n\nown", both[NOTE].removesuffix("c"), first[NOTE]):
        assert described({**both, NOTE: own}, "conversion", ("g", "h", "i")) == {}


@pytest.mark.parametrize("string", hostile.HOSTILE)
def test_no_string_of_a_log_is_markup_or_too_long_in_its_description(string: str) -> None:
    text = "\n\n".join(description(hostile.evidence(string).record))
    assert all(len(paragraph) <= LONGEST for paragraph in text.split("\n\n"))
    assert 2 * len(text) < TAG_LIMIT
    assert text.count("\n\n") == 2
    marks = ("<script", "<img", "</style", "[link](", "\n#", "\x1b", "\u202e")
    assert not any(mark in text for mark in marks)
    assert "](" not in text.replace("\\](", "")


def test_what_was_not_used_is_not_in_the_line() -> None:
    record = samples.optimization().record
    line = description(record)[0]
    assert line.startswith(f"**Model Optimization Log {record.log_id}:** 8-bit: weights int8 (int8_t)")
    assert "pruned" not in line
