"""``record_conversion`` and ``record_optimization``: decorators, scripts, other interpreters, declared values."""

from __future__ import annotations

import functools
import subprocess
import sys
import venv
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

import mlflow_aifsm as aifsm
from mlflow_aifsm.digests import sha256_file
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.facts import State
from mlflow_aifsm.hooks.external import ExternalRecording
from tests.autolog.recorded import artifact, children, the_log
from tests.operations.quantized_models import small

pytestmark = pytest.mark.usefixtures("experiment")


def test_a_decorated_function_gets_its_log_and_returns_what_it_returns() -> None:
    @aifsm.record_conversion(converter="onnx", verified_model="digits_1")
    def convert(name: str, *, log: ExternalRecording | None = None) -> int:
        """Converts."""
        assert log is not None
        log.output(small().path)
        return len(name)

    with mlflow.start_run() as run:
        assert convert("digits") == 6
    assert the_log(run.info.run_id, "conversion").output_sha256 == sha256_file(small().path)
    assert convert.__doc__ == "Converts."


def test_a_decorated_function_without_a_log_hands_over_the_file_that_it_returns() -> None:
    @aifsm.record_optimization(optimizer="onnx")
    def optimize() -> Path:
        return small().path

    ids = []
    for _ in range(2):
        with mlflow.start_run() as run:
            assert optimize() == small().path
        ids.append(the_log(run.info.run_id).log_id)
    assert len(set(ids)) == 2
    assert the_log(run.info.run_id).output_sha256 == sha256_file(small().path)


def test_a_decorated_function_that_raises_is_logged_as_failed() -> None:
    @aifsm.record_conversion()
    def convert() -> None:
        raise OSError("no space")

    with mlflow.start_run() as run, pytest.raises(OSError, match="no space"):
        convert()
    assert the_log(run.info.run_id, "conversion").failure == "OSError: no space"


def test_a_decorated_function_that_has_the_log_may_return_any_file() -> None:
    @aifsm.record_conversion()
    def convert(log: ExternalRecording) -> Path:
        log.output(small().path)
        return Path(__file__)

    @aifsm.record_conversion()
    def report(log: ExternalRecording) -> Path:
        log.note("nothing was converted")
        return Path(__file__)

    with mlflow.start_run() as run:
        assert convert() == Path(__file__)  # type: ignore[call-arg]
    assert the_log(run.info.run_id, "conversion").output_sha256 == sha256_file(small().path)
    with mlflow.start_run() as run:
        assert report() == Path(__file__)  # type: ignore[call-arg]
    assert the_log(run.info.run_id, "conversion").output_files == ()


async def awaited() -> None: ...


def yielding() -> Iterator[int]:
    yield 1


async def both() -> AsyncIterator[int]:
    yield 1


class Awaited:
    """An object that is called and awaited."""

    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    "late", [awaited, yielding, both, Awaited(), functools.partial(awaited)], ids=lambda one: str(one)[:20]
)
def test_what_has_not_done_its_work_when_it_returns_is_refused(late: Any) -> None:
    with pytest.raises(InputError, match="cannot be decorated"):
        aifsm.record_conversion()(late)


def test_methods_of_any_kind_can_be_decorated() -> None:
    class Converter:
        @aifsm.record_conversion()
        def bound(self) -> Any:
            return self

        @classmethod
        @aifsm.record_conversion()
        def of_class(cls) -> Any:
            return cls

        @staticmethod
        @aifsm.record_conversion()
        def free(value: int) -> int:
            return value

    made = Converter()
    with mlflow.start_run() as run:
        assert (made.bound(), Converter.of_class(), made.free(3)) == (made, Converter, 3)
    assert len(children(run.info.run_id)) == 2


def test_a_command_is_stored_without_secrets_and_places() -> None:
    command = ["vendor-tool", "--out=/home/ada/net.onnx", "--token", "abc", "https://ada:pw@example.org/net?key=abc"]
    with mlflow.start_run() as run, aifsm.record_conversion() as log:
        log.script(command, config={"opset": 17, "api_key": "abc"}, exit_code=0)
    told = the_log(run.info.run_id, "conversion").entries["aifsm.conversion.converter"].value
    shown = "vendor-tool --out=net.onnx --token '***' https://example.org/net; configuration: opset=17, api_key='***'"
    assert told.text.startswith(shown)
    assert "abc" not in str(told.data)


def test_a_script_is_stored_with_its_configuration_and_exit_code() -> None:
    Path("convert.py").write_text("print('converted')\n")
    Path("convert.toml").write_text("opset = 17\n")
    done = subprocess.run([sys.executable, "convert.py"], check=True)
    with mlflow.start_run() as run, aifsm.record_conversion() as log:
        log.read(small().path)
        log.script("convert.py", config="convert.toml", exit_code=done.returncode)
        log.output(small().path)
    record = the_log(run.info.run_id, "conversion")
    told = record.entries["aifsm.conversion.converter"].value
    digest = sha256_file(Path("convert.toml"))
    assert told.data["files"]["convert.toml"] == digest
    assert f"configuration: convert.toml (sha256 {digest[:12]}…); exit code 0" in told.text
    assert artifact(run.info.run_id, "aifsm/conversion/source/convert.py") == "print('converted')\n"
    assert record.input_sha256 == sha256_file(small().path)


def test_a_command_that_failed_is_a_finding() -> None:
    with mlflow.start_run() as run, aifsm.record_optimization() as log:
        log.script(["vendor-tool", "--bits", "8", "my model.onnx"], config={"bits": 8}, exit_code=3)
    record = the_log(run.info.run_id)
    entry = record.entries["aifsm.ptq.additional"]
    assert entry.value.text.startswith("vendor-tool --bits 8 'my model.onnx'; configuration: bits=8; exit code 3")
    assert [finding.code for finding in entry.findings] == ["tool_failed"]


def test_the_script_of_a_command_is_stored_and_its_interpreter_named_without_its_place(tmp_path: Path) -> None:
    script = tmp_path / "convert.py"
    script.write_text("print('converted')\n")
    with mlflow.start_run() as run, aifsm.record_conversion() as log:
        log.script([sys.executable, script, "--opset", "17"], exit_code=0)
    told = the_log(run.info.run_id, "conversion").entries["aifsm.conversion.converter"].value
    name, digest = Path(sys.executable).name, sha256_file(script)
    assert told.text.startswith(f"{name} convert.py --opset 17 (convert.py, sha256 {digest[:12]}…); configuration: not told")
    assert str(tmp_path) not in told.text
    assert artifact(run.info.run_id, "aifsm/conversion/source/convert.py") == "print('converted')\n"


def test_a_line_that_no_shell_could_read_is_kept_as_it_is() -> None:
    with mlflow.start_run() as run, aifsm.record_conversion() as log:
        log.script("tool --name 'half", exit_code=0)
    data = the_log(run.info.run_id, "conversion").entries["aifsm.conversion.converter"].value.data
    assert "half" in data["command"]


def test_the_input_is_named_by_its_file_and_the_place_of_the_work_by_its_interpreter() -> None:
    images, labels = small().images[:40], small().labels[:40]
    with mlflow.start_run() as run, aifsm.record_conversion(verified_model="digits_1") as log:
        log.read(small().path)
        log.packages(sys.executable)
        log.output(small().path)
        log.verify(small().path, aifsm.Verification({"image": images}, labels))
    record = the_log(run.info.run_id, "conversion")
    entry = record.entries["aifsm.conversion.input_id"]
    assert str(next(fact.source for fact in entry.beside if fact.name == "input.digest")) == "small.onnx"
    assert any(note.startswith("The conversion ran in another interpreter, Python 3.") for note in record.notes)
    assert record.verification.passed


def test_a_script_that_is_not_there_is_refused() -> None:
    with mlflow.start_run(), pytest.raises(InputError, match="no such file"), aifsm.record_conversion() as log:
        log.script(Path("gone.py"))


def test_packages_are_those_of_the_interpreter_that_is_named(tmp_path: Path) -> None:
    venv.create(tmp_path / "other", symlinks=True)
    site = next((tmp_path / "other").glob("lib/python*/site-packages"))
    (site / "tf2onnx-1.16.1.dist-info").mkdir()
    (site / "tf2onnx-1.16.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: tf2onnx\nVersion: 1.16.1\n")
    with mlflow.start_run() as run, aifsm.record_conversion(converter="tf2onnx") as log:
        log.packages(tmp_path / "other" / "bin" / "python")
    entries = the_log(run.info.run_id, "conversion").entries
    assert entries["aifsm.conversion.framework"].value.text == "tf2onnx 1.16.1"
    assert entries["aifsm.conversion.packages"].value.data == {"tf2onnx": "1.16.1"}
    assert artifact(run.info.run_id, "aifsm/conversion/packages-of-the-tool.txt") == "tf2onnx==1.16.1\n"


def test_an_interpreter_that_is_none_is_refused() -> None:
    with mlflow.start_run(), pytest.raises(InputError, match="interpreter nowhere"), aifsm.record_conversion() as log:
        log.packages("nowhere")


def test_a_declared_value_that_the_file_contradicts_is_a_finding() -> None:
    with mlflow.start_run() as run, aifsm.record_optimization() as log:
        log.output(small().path)
        log.declare("pruning.framework", "vendor tool 4.2", "A. Ito")
    entries = the_log(run.info.run_id).entries
    assert entries["aifsm.pruning.framework"].state is State.DECLARED
    with mlflow.start_run() as run, aifsm.record_conversion() as log:
        log.output(small().path)
        log.declare("conversion.opset", "ai.onnx 7", "A. Ito")
    entry = the_log(run.info.run_id, "conversion").entries["aifsm.conversion.opset"]
    assert entry.state is State.MEASURED
    assert [finding.code for finding in entry.findings] == ["declared_not_found"]
