"""Calls side by side, folders that are not ours, memory, and labels of every kind."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mlflow_aifsm import scratch
from mlflow_aifsm.backends import nncf, onnxruntime
from mlflow_aifsm.calibration.reading import Reading
from mlflow_aifsm.errors import InputError, OptimizationError
from mlflow_aifsm.operations import judgement
from mlflow_aifsm.operations.judgement import Judge
from mlflow_aifsm.operations.quantization import NNCF, ORT, Static
from mlflow_aifsm.samples import Data, Samples
from mlflow_aifsm.verification.session import OnnxSession
from tests.operations.quantized_models import done, saved, small

NODE = helper.make_node
RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def reading(count: int = 8) -> Reading:
    return Reading(Samples.of(small().images[:count]), OnnxSession(small().path))


def ranges() -> dict[str, tuple[float, float]]:
    graph = onnx.load(small().path).graph
    return {name: (-4.0, 4.0) for node in graph.node for name in ("image", *node.output)}


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """The small net with its weights beside it, alone in its folder."""
    path = tmp_path / "float" / "model.onnx"
    path.parent.mkdir()
    onnx.save(onnx.load(small().path), path, save_as_external_data=True, location="model.data", size_threshold=0)
    return path


def test_threads_quantize_one_file_side_by_side(external: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: onnxruntime.placed(external, ranges(), {"per_channel": True}).path, range(8)))
    assert len({path.read_bytes() for path in made}) == 1
    assert sorted(path.name for path in external.parent.iterdir()) == ["model.data", "model.onnx"]


def test_nothing_is_written_beside_the_file_not_even_for_a_moment(external: Path) -> None:
    seen: set[str] = set()

    def watched() -> Iterator[dict[str, Any]]:
        for batch in reading():
            seen.update(path.name for path in external.parent.iterdir())
            yield batch

    before = external.parent.stat().st_mtime_ns
    external.parent.chmod(0o500)
    try:
        onnxruntime.static(external, watched(), {})
    finally:
        external.parent.chmod(0o700)
    assert external.parent.stat().st_mtime_ns == before
    assert seen == {"model.data", "model.onnx"}


def test_overlapping_calls_leave_the_logging_of_the_process_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(nncf.quantize, small().path, reading(), {"subset_size": 4}) for _ in range(2)]
        calls += [pool.submit(onnxruntime.placed, small().path, ranges(), {}) for _ in range(2)]
        while not all(call.done() for call in calls):
            logging.getLogger("other").warning("said meanwhile")
            logging.warning("said on the root logger")  # noqa: LOG015 -- it is the root logger that is shared
    assert [call.exception() for call in calls] == [None] * 4
    assert logging.root.manager.disable == logging.NOTSET
    assert logging.getLogger("nncf").level == logging.INFO
    assert {record.getMessage() for record in caplog.records} == {"said meanwhile", "said on the root logger"}
    assert caplog.messages.count("said meanwhile") == caplog.messages.count("said on the root logger")


def test_the_tools_print_and_draw_nothing_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    onnxruntime.static(small().path, reading(), {"calibrate_method": "Entropy"})
    nncf.quantize(small().path, reading(), {"subset_size": 8})
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_the_tools_say_what_they_say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_AIFSM_QUIET", "0")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    onnxruntime.static(small().path, reading(), {"calibrate_method": "Entropy"})
    assert "Finding optimal threshold" in capsys.readouterr().out


def branching(folder: Path, condition: str) -> Path:
    """A convolution in one branch, which reads ``a`` and its weights from around it; ``condition`` is computed from ``a``."""
    bodies = {"then": NODE("Conv", ["a", "v", "c"], ["t"], "inner", pads=[1] * 4), "else": NODE("Relu", ["a"], ["t"])}
    out = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    branches = {f"{name}_branch": helper.make_graph([node], name, [], [out]) for name, node in bodies.items()}
    nodes = [
        NODE("Conv", ["x", "w", "b"], ["a"], "conv", pads=[1] * 4),
        NODE(condition, ["a"], ["r"], "condition"),
        NODE("ReduceMean", ["r"], ["mean"], "mean", keepdims=0),
        NODE("Greater", ["mean", "zero"], ["over"], "over"),
        NODE("If", ["over"], ["i"], "if", **branches),
        NODE("Conv", ["i", "u", "d"], ["y"], "last", pads=[1] * 4),
    ]
    tensors = {"w": normal(8, 3, 3, 3), "b": normal(8), "v": normal(8, 8, 3, 3), "c": normal(8), "u": normal(4, 8, 3, 3)}
    tensors |= {"d": normal(4), "zero": np.float32(0)}
    return saved(folder, nodes, tensors, x_shape=["n", 3, 8, 8], y_shape=["n", 4, 8, 8])


def test_a_branch_that_onnx_runtime_breaks_is_its_own_failure(tmp_path: Path) -> None:
    with pytest.raises(OptimizationError, match=r"quantize_static failed: ValidationError"):
        done(Static(), branching(tmp_path, "Relu"), normal(32, 3, 8, 8))


def test_weights_that_only_a_branch_reads_stay_in_the_file(tmp_path: Path) -> None:
    made = done(Static(), branching(tmp_path, "Neg"), normal(32, 3, 8, 8))
    assert {"v", "c"} <= {tensor.name for tensor in onnx.load(made.quantized.path).graph.initializer}


def test_a_folder_for_one_step_is_gone_after_it() -> None:
    with scratch.temporary() as folder:
        (folder / "file").write_text("x")
    assert not folder.exists()


def test_ranges_and_copies_leave_one_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = onnxruntime.placed(small().path, ranges(), {}).path
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [made]


@pytest.mark.parametrize(
    "config", [Static(backend="nncf"), NNCF(subset_size=4), ORT()], ids=lambda config: type(config).__name__
)
def test_a_sample_that_is_not_finite_is_an_error_of_the_input(config: Any) -> None:
    images = small().images[:8].copy()
    images[3] = np.nan
    with pytest.raises(InputError, match="'image' is not finite at calibration sample 3"):
        done(config, data=images, count=8)


@pytest.mark.parametrize("config", [NNCF(), ORT()], ids=lambda config: type(config).__name__)
def test_fewer_samples_than_the_fixed_batch_are_an_error_of_the_input(tmp_path: Path, config: Any) -> None:
    path = saved(tmp_path, [NODE("Gemm", ["x", "w"], ["y"], "layer")], {"w": normal(4, 6)}, x_shape=[64, 4], y_shape=[64, 6])
    with pytest.raises(InputError, match="fewer samples than the model's fixed batch of 64; got 40 samples"):
        done(config, path, normal(40, 4))


def test_a_table_of_positions_in_a_fixed_batch_is_quantized(tmp_path: Path) -> None:
    nodes = [
        NODE("MatMul", ["x", "w"], ["m"], "first"),
        NODE("Slice", ["table", "start", "end", "axis"], ["rows"], "slice"),
        NODE("Mul", ["rows", "two"], ["positions"], "twice"),
        NODE("Add", ["m", "positions"], ["a"], "add"),
        NODE("MatMul", ["a", "v"], ["y"], "second"),
    ]
    tensors = {"w": normal(16, 16), "v": normal(16, 4), "table": normal(1, 9, 16), "two": np.full(1, 2, np.float32)}
    tensors |= {name: np.array([value]) for name, value in {"start": 0, "end": 5, "axis": 1}.items()}
    path = saved(tmp_path, nodes, tensors, x_shape=[2, 5, 16], y_shape=[2, 5, 4])
    made = done(Static(ranges="mean_min_max"), path, normal(20, 5, 16))
    row = next(row for row in made.tables["calibration"] if row["tensor"] == "positions")
    assert row["calibrated_min"] == pytest.approx(2 * tensors["table"][:, :5].min(), rel=1e-6)


@pytest.mark.parametrize(
    ("labels", "labelled"),
    [("whole", True), ("column", True), ("targets", False), ("one-hot", False), ("words", False), ("none", False)],
)
def test_a_judgement_says_whether_labels_were_compared(labels: str, labelled: bool) -> None:
    classes = small().labels[:40]
    kinds = {
        "whole": classes.astype(float),
        "column": classes[:, None],
        "targets": classes + 0.5,
        "one-hot": np.eye(10)[classes],
    }
    kinds |= {"words": classes.astype(str), "none": None}
    judge = Judge(small().path, Samples.of(Data(small().images[:40], labels=kinds[labels])))
    found = judge.judge(small().path)
    assert (found.labelled, found.data["labelled"], found.drop) == (labelled, labelled, 0.0)
    assert ("accuracy drop" if labelled else "decisions changed") in found.text


def test_outputs_beyond_the_held_ones_are_computed_again_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Samples.of(Data(small().images[:40], labels=small().labels[:40]))
    candidate = onnxruntime.placed(small().path, ranges(), {}).path
    whole = Judge(small().path, samples).judge(candidate)
    monkeypatch.setattr(judgement, "HELD", 700)  # two batches of 8 rows of 10 scores
    judge = Judge(small().path, samples)
    assert len(judge._held) == 2
    assert judge.judge(candidate) == whole


def test_data_that_shrink_between_readings_are_refused() -> None:
    passes = iter([40, 32])
    judge = Judge(small().path, Samples.of(lambda: iter(small().images[: next(passes)])))
    with pytest.raises(InputError, match="change from one reading to the next; got 32 samples; expected 40 as before"):
        judge.judge(small().path)
