"""Which names of a function are wrapped, when, and that all of them come back."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import nncf
import onnxruntime.quantization as ort
import pytest
import torch.onnx

import mlflow_aifsm as aifsm
from mlflow_aifsm.autologging.patching import Patches
from mlflow_aifsm.autologging.table import BUILT_IN, Row
from tests.autolog.recorded import recording

FUNCTIONS = {
    "torch.onnx.export": torch.onnx.export,
    "nncf.quantize": nncf.quantize,
    "nncf.quantize_with_accuracy_control": nncf.quantize_with_accuracy_control,
    "nncf.compress_weights": nncf.compress_weights,
    "nncf.prune": nncf.prune,
    "onnxruntime.quantization.quantize_static": ort.quantize_static,
    "onnxruntime.quantization.quantize_dynamic": ort.quantize_dynamic,
}
"""The functions as they are before anything is wrapped; a name of this module that a wrapper could replace is none of them."""


def places(function: object) -> set[tuple[str, str]]:
    """Every entry of a loaded module that is ``function``."""
    modules = [(name, module) for name, module in sys.modules.items() if isinstance(module, ModuleType)]
    return {(name, entry) for name, module in modules for entry, value in list(vars(module).items()) if value is function}


def test_the_table_names_the_functions_that_are_wrapped() -> None:
    assert {row.function for row in BUILT_IN} == set(FUNCTIONS)
    assert all(callable(row.load()) for row in BUILT_IN)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_every_entry_that_is_the_original_is_replaced_and_comes_back(function: object) -> None:
    before = places(function)
    assert before
    with recording():
        assert not places(function)
        wrapper = vars(sys.modules[next(iter(before))[0]])[next(iter(before))[1]]
        assert places(wrapper) == before
        assert wrapper.__wrapped__ is function
    assert places(function) == before


def test_a_name_that_another_module_imported_before_is_wrapped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    module, original = ModuleType("users_module"), nncf.quantize
    module.shorter = original  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_module", module)
    monkeypatch.setattr(sys.modules["__main__"], "my_quantize", original, raising=False)
    with recording():
        assert module.shorter is nncf.quantize is sys.modules["__main__"].my_quantize is not original
    assert module.shorter is nncf.quantize is sys.modules["__main__"].my_quantize is original


def test_wrapping_twice_is_wrapping_once() -> None:
    original = nncf.quantize
    with recording():
        first = nncf.quantize
        aifsm.autolog(strict=True)
        assert nncf.quantize is first
        assert first.__wrapped__ is original
    assert nncf.quantize is original


def test_threads_may_switch_it_on_and_off_at_once() -> None:
    original = ort.quantize_static
    threads = [threading.Thread(target=aifsm.autolog, kwargs={"disable": bool(number % 2)}) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    aifsm.autolog()
    assert ort.quantize_static.__wrapped__ is original
    aifsm.autolog(disable=True)
    assert ort.quantize_static is original


def test_a_library_that_is_imported_later_is_wrapped_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "later_library").mkdir()
    (tmp_path / "later_library" / "__init__.py").write_text("from later_library.work import convert\n")
    (tmp_path / "later_library" / "work.py").write_text("def convert():\n    return 'done'\n")
    monkeypatch.syspath_prepend(tmp_path)
    patches = Patches(lambda row, original: lambda: f"{row.function} {original()}")
    patches.apply([Row("later_library", "convert", "conversion", "nowhere:at_all")])
    try:
        library = importlib.import_module("later_library")
        assert library.convert() == "later_library.convert done"
        assert library.work.convert is library.convert
        assert type(library.__loader__).__name__ == type(library.__spec__.loader).__name__ == "SourceFileLoader"
    finally:
        patches.undo()
    assert library.convert() == "done"
    for name in ("later_library", "later_library.work"):
        del sys.modules[name]


def test_it_imports_no_framework_and_no_mlflow() -> None:
    heavy = "{'torch', 'mlflow', 'nncf', 'onnx', 'onnxruntime'}"
    script = f"import sys, mlflow_aifsm; mlflow_aifsm.autolog(); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
