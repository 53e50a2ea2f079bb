"""Ten lines on a file, from facts alone."""

import json
import subprocess
import sys

from mlflow_aifsm.digests import FileDigest
from mlflow_aifsm.facts import Finding, measured, not_applicable, not_recorded
from mlflow_aifsm.report.inspection import inspection, inspection_data

SOURCE = "digits.onnx (sha256 5f0c1d9a…)"
SHA256 = "5f0c1d9a" * 8
ELIMINATED = ("dropout", "gradient_clipping", "lr_scheduling", "weight_regularization", "other")
LOST = Finding("non_linearity_lost", measured="1 of 3 activation functions lost: relu", effect="another function")


def joined(text):
    """``text`` with wrapped lines joined again."""
    return text.replace("\n" + " " * 17, " ")


def graph():
    facts = [measured(f"graph.{name}", "Eliminated: shown", short="eliminated", source=SOURCE) for name in ELIMINATED]
    facts += [measured("graph.batch_normalization", "Folded: 2", short="folded", source=SOURCE)]
    facts += [
        measured("graph.opset", "ai.onnx 20", 20, source=SOURCE),
        measured("graph.size", "32,412 bytes", 32412, source=SOURCE),
    ]
    facts += [measured("graph.operators", "Conv 3, Relu 3, Gemm 1", {}, source=SOURCE)]
    return [*facts, measured("zeros.ratio", "0 of 5,530 weights are zero", 0.0, source=SOURCE)]


def quantized(*findings):
    names = ("precision", "scheme", "granularity", "technique", "transformation", "scale", "float_layers")
    facts = [measured(f"quantizers.{name}", f"what {name} says", source=SOURCE) for name in names]
    lost = measured("quantizers.lost_non_linearities", "1 of 3 lost", source=SOURCE, findings=findings)
    return [*graph(), *facts, lost, not_recorded("runtime.integer_operators", "refused by the runtime")]


def unquantized():
    names = ("precision", "scheme", "granularity", "technique", "transformation", "scale", "float_layers")
    return [*graph(), *(not_applicable(f"quantizers.{name}", "no quantizer among 9 nodes", source=SOURCE) for name in names)]


def test_a_quantized_file_takes_ten_to_twelve_lines():
    lines = joined(inspection(quantized(), "digits.onnx", SHA256)).splitlines()
    assert 10 <= len(lines) <= 12
    assert lines[0] == "File             digits.onnx (sha256 5f0c1d9a5f0c…)"
    assert "Precision        what precision says" in lines


def test_a_float_file_says_once_that_it_is_not_quantized():
    text = inspection(unquantized(), "digits.onnx", SHA256)
    assert text.count("no quantizer among 9 nodes") == 1
    assert "Not quantized    no quantizer among 9 nodes" in text
    assert "Not applicable" not in text


def test_findings_are_marked_at_the_end():
    assert inspection(quantized(LOST), "digits.onnx", SHA256).splitlines()[-1] == (
        "!                non_linearity_lost: 1 of 3 activation functions lost: relu (another function)"
    )
    assert "!" not in inspection(quantized(), "digits.onnx", SHA256)


def test_what_was_not_measured_says_why():
    assert "not recorded: refused by the runtime" in inspection(quantized(), "digits.onnx", SHA256)


def test_the_eliminations_are_told_by_what_became_of_them():
    assert (
        "Training-only    eliminated: Dropout, Gradient Clipping, Learning Rate Scheduling, Weight Regularization, other; "
        "folded: Batch Normalization"
    ) in joined(inspection(graph(), "digits.onnx", SHA256))


def test_no_line_is_longer_than_a_narrow_terminal():
    assert max(map(len, inspection(quantized(LOST), "digits.onnx", SHA256).splitlines())) <= 100


def test_answered_fields_are_counted_against_both_templates():
    text = joined(inspection(quantized(), "digits.onnx", SHA256))
    assert "5 of 14 fields of the Model Conversion Log; 6 of 23 fields of the Model Optimization Log" in text
    assert "(6 as not applicable)" in inspection(unquantized(), "digits.onnx", SHA256)


def test_the_data_is_json_and_holds_every_fact_and_finding():
    facts = quantized(LOST)
    files = [FileDigest("digits.onnx", 32412, SHA256)]
    data = inspection_data(facts, "digits.onnx", SHA256, files, {"zeros": ({"tensor": "w"},)})
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert set(data["facts"]) == {fact.name for fact in facts}
    assert [finding["code"] for finding in data["findings"]] == ["non_linearity_lost"]
    assert data["answered"]["conversion"] == {"answered": 5, "not_applicable": 0, "fields": 14}
    assert data["files"][0]["size"] == 32412


def test_inspection_needs_no_framework():
    heavy = "mlflow torch onnx onnxruntime nncf numpy"
    code = f"import sys, mlflow_aifsm.report.inspection; print([name for name in '{heavy}'.split() if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
