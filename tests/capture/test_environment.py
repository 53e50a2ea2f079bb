"""The place of a conversion, read on this host and in fresh processes."""

from __future__ import annotations

import getpass
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from mlflow_aifsm.capture import environment
from mlflow_aifsm.facts import State

SECRET = "hunter2-not-for-the-log"


def in_new_process(code: str, **variables: str) -> str:
    root = os.fspath(Path(environment.__file__).parents[2])
    surroundings = {**os.environ, "PYTHONPATH": root, **variables}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=surroundings).stdout


def test_nothing_of_the_process_environment_is_kept_but_the_listed_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "OMP_PASSWORD", "PATH_TO_KEY"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    (fact,) = environment.facts()
    everything = json.dumps([fact.value.data, fact.value.text, fact.value.short])
    assert SECRET not in everything
    assert fact.value.data["variables"]["OMP_NUM_THREADS"] == "3"
    assert set(fact.value.data["variables"]) <= set(environment.VARIABLES)
    assert "OMP_NUM_THREADS=3" in fact.value.text


def test_neither_host_nor_account_is_named() -> None:
    (fact,) = environment.facts()
    values = json.dumps(fact.value.data)
    assert f'"{platform.node()}"' not in values
    assert f'"{getpass.getuser()}"' not in values
    assert os.fspath(Path.home()) not in values


def test_the_fact_is_one_readable_line() -> None:
    (fact,) = environment.facts()
    assert (fact.name, fact.state, str(fact.source)) == ("environment.host", State.CAPTURED, "host")
    assert fact.value.short == f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    assert "\n" not in fact.value.text
    assert fact.value.text.startswith(f"{platform.system()} {platform.release()}")
    assert "GiB memory" in fact.value.text
    assert "GPU" in fact.value.text


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo on this system")
def test_the_vector_flags_are_those_of_the_processor() -> None:
    flags = environment.host()["vector_flags"]
    known = Path("/proc/cpuinfo").read_text().split()
    assert flags
    assert set(flags) <= set(known)
    assert "sse2" not in flags


def test_no_framework_is_imported_to_read_the_place() -> None:
    code = (
        "import sys; from mlflow_aifsm.capture import environment; data = environment.host();"
        "heavy = {'torch', 'mlflow', 'onnx', 'onnxruntime', 'nncf', 'numpy'} & set(sys.modules); print(heavy, data['torch'])"
    )
    assert in_new_process(code).strip() == "set() None"


def test_threads_and_seed_are_those_of_an_imported_torch() -> None:
    code = (
        "import torch; torch.manual_seed(42); torch.set_num_threads(1); torch.use_deterministic_algorithms(True);"
        "from mlflow_aifsm.capture import environment; print(environment.facts()[0].value.text)"
    )
    text = in_new_process(code, PYTHONHASHSEED="5")
    assert "1 thread, PyTorch seed 42, deterministic algorithms, PYTHONHASHSEED=5" in text


def test_packages_are_the_dependency_closure_of_the_roots() -> None:
    found = environment.packages(["onnx", "not-a-package-at-all"])
    assert found["onnx"] == metadata.version("onnx")
    assert {"numpy", "protobuf", "typing-extensions"} <= found.keys()
    assert "pytest" not in found
    assert "not-a-package-at-all" not in found
    assert list(found) == sorted(found)


def test_extras_count_only_where_they_are_asked_for() -> None:
    bare, with_extra = environment.packages(["pandas"]), environment.packages(["pandas[test]"])
    assert "pytest" not in bare
    assert {"pytest", "pluggy"} <= with_extra.keys()


def test_the_closure_of_all_frameworks_takes_less_than_half_a_second() -> None:
    roots = ["mlflow", "torch", "onnx", "onnxscript", "onnxruntime", "nncf"]
    first = environment.packages(roots)
    start = time.perf_counter()
    assert environment.packages(roots) == first
    assert time.perf_counter() - start < 0.5
    assert len(first) > 50


def test_the_cell_names_the_roots_and_counts_the_rest() -> None:
    versions = {"onnx": "1.2", "numpy": "2.0", "torch": "2.9"}
    assert environment.package_text(versions, ["torch", "onnx"]) == "torch 2.9, onnx 1.2 and 1 dependency (see packages.txt)"
    assert environment.package_text({"torch": "2.9"}, ["torch", "nncf"]) == "torch 2.9"


def test_a_package_fact_without_any_installed_root_is_not_recorded() -> None:
    fact = environment.package_fact("converter.packages", ["not-a-package-at-all"])
    assert (fact.state, fact.value.text) == (State.NOT_RECORDED, "")
    assert "not-a-package-at-all" in fact.reason
    known = environment.package_fact("converter.packages", ["onnx"])
    assert known.value.short == f"onnx {metadata.version('onnx')}"


def test_versions_outside_the_tried_range_are_noted() -> None:
    versions = {"torch": "2.14.1", "onnx": "1.23.9", "nncf": "2.9", "mlflow": "3.9.0rc1", "numpy": "99"}
    notes = environment.tried_range_notes(versions)
    assert notes == [
        "torch 2.14.1 is outside the range that was tried (2.9 to 2.13)",
        "nncf 2.9 is outside the range that was tried (3.0 to 3.4)",
    ]
