"""The short guides: each block of Python and of the shell runs as it stands, on what the guide says is there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.image
import mlflow
import nbformat
import numpy as np
import pytest
import torch

import mlflow_aifsm as aifsm
from examples.quickstart import digits, register, train
from tests.command import Outcome, command
from tests.conftest import REPOSITORY, copied
from tests.notebooks import ran

DOCS = REPOSITORY / "docs"
GUIDES = {path.name: path.read_text("utf-8") for path in DOCS.glob("*.md")}


def blocks(guide: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDES[guide], re.MULTILINE | re.DOTALL)


def commands(guide: str) -> list[str]:
    """The lines of the guide's shell blocks, without comments."""
    return [line.partition("  #")[0].strip() for block in blocks(guide, "bash") for line in block.splitlines()]


def run(line: str) -> Outcome:
    """A line of ``mlflow-aifsm`` with at most one output to a file, as a shell runs it."""
    words, _, file = line.partition(" > ")
    program, *arguments = shlex.split(words)
    assert program == "mlflow-aifsm"
    done = command(*arguments)
    if file:
        Path(file).write_text(done.out, "utf-8")
    return done


@dataclass(frozen=True)
class Place:
    """What the guides presuppose: data, a network that was trained, registered, frozen and quantized in one run."""

    data: dict[str, tuple[np.ndarray, np.ndarray]]
    model: torch.nn.Module
    frozen: aifsm.Result
    run_id: str

    @property
    def verification(self) -> aifsm.Verification:
        return aifsm.Verification(*self.data["verification"])

    @property
    def calibration(self) -> aifsm.Data:
        return aifsm.Data(self.data["calibration"][0], name="digits, calibration", labels=self.data["calibration"][1])


@pytest.fixture(scope="module")
def place(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The quickstart's way in a folder and a database of its own, which are where the process works."""
    folder, before = tmp_path_factory.mktemp("guides"), mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", copied(migrated, folder))
        patch.setenv("MLFLOW_AIFSM_RESPONSIBLE", "A. Ito")
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        mlflow.set_experiment(experiment_id=mlflow.create_experiment("digits", artifact_location=(folder / "runs").as_uri()))
        yield prepared(digits())
    mlflow.set_tracking_uri(before)


def prepared(data: dict[str, tuple[np.ndarray, np.ndarray]]) -> Place:
    with mlflow.start_run() as active:
        model = train(*data["training"], epochs=4)
        uri = register(model, *data["verification"])
        held_out = aifsm.Verification(*data["verification"])
        frozen = aifsm.freeze(uri, verification=held_out, registered_model_name="digits-frozen")
        made = Place(data, model, frozen, active.info.run_id)
        int8 = aifsm.quantize(frozen, made.calibration, verification=held_out, registered_model_name="digits-int8")
    Path("deployed").mkdir()
    shutil.copy(int8.path, "deployed/model.onnx")
    return made


@pytest.mark.slow
@pytest.mark.parametrize("guide", ["checking.md", "reports.md"])
def test_each_command_of_a_guide_succeeds_on_a_complete_log(place: Place, guide: str) -> None:
    Path("brand").mkdir(exist_ok=True)
    matplotlib.image.imsave("brand/logo.png", np.zeros((8, 8)))
    for settings in blocks(guide, "toml"):
        Path("aifsm.toml").write_text(settings, "utf-8")
    for line in commands(guide):
        done = run(line.replace("RUN_ID", place.run_id))
        assert (done.code, "Traceback" in done.err) == (0, False), f"{line}\n{done.out}{done.err}"
    for block in blocks(guide, "python"):
        names: dict[str, Any] = {"aifsm": aifsm}
        exec(compile(block, guide, "exec"), names)
        assert [path.suffix for path in names["paths"]] == [".md"]
    Path("aifsm.toml").unlink(missing_ok=True)


@pytest.mark.slow
def test_the_commands_of_the_guides_leave_what_is_said_of_them(place: Place) -> None:
    run("mlflow-aifsm check models:/digits-int8/1 --json > seen.json")
    (found,) = json.loads(Path("seen.json").read_text("utf-8"))
    assert (found["log"], found["status"], found["unanswered"], found["findings"]) == ("optimization", "complete", [], [])
    run("mlflow-aifsm report models:/digits-int8/1 --chain --format md -o chain.md")
    chain = Path("chain.md").read_text("utf-8")
    assert chain.index("Model Conversion Log") < chain.index("Model Optimization Log")
    Path("deployed/model.onnx").write_bytes(Path("deployed/model.onnx").read_bytes() + b"\0")
    assert run("mlflow-aifsm check deployed/model.onnx").code != 0


def test_the_exit_codes_of_the_guide_are_those_of_the_command_line() -> None:
    listed = re.findall(r"^\| (\d) \|", GUIDES["checking.md"], re.MULTILINE)
    text = " ".join(command("--help").out.partition("Exit codes:")[2].partition("Examples")[0].split())
    assert listed == re.findall(r"(?:^|· | )(\d) \w", text)


@pytest.mark.slow
def test_each_example_of_the_guide_to_freezing_runs_and_its_log_is_whole(place: Place) -> None:
    (line,) = commands("freezing.md")
    assert run(line).code == 0
    images, labels = place.data["verification"]
    optimizer = torch.optim.Adam(place.model.parameters())
    names: dict[str, Any] = {
        "aifsm": aifsm,
        "model": place.model,
        "images": images,
        "labels": labels,
        "training_images": place.data["training"][0],
        "optimizer": optimizer,
        "scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
        "loss": torch.nn.CrossEntropyLoss(),
        "on_target": lambda batch: place.model(torch.from_numpy(batch)).detach().numpy() + np.float32(1e-6),
    }
    shutil.copy(place.frozen.path, "detector.onnx")
    for block in blocks("freezing.md", "python"):
        exec(compile(block, "freezing.md", "exec"), names)
        made = names.pop("frozen", None) or names.pop("archive")
        assert made.verification.passed, block
        assert made.findings == (), block
        assert (made.record.gaps == ()) == ("detector.onnx" not in block), block
    assert names["same"] is not None


@pytest.mark.slow
def test_the_cells_of_the_guide_to_notebooks_run_in_a_notebook(place: Place, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "data.npz",
        **{f"{name}_{part}": array for name, pair in place.data.items() for part, array in zip("xy", pair, strict=True)},
    )
    torch.save(place.model, tmp_path / "model.pt")
    start = (
        "import mlflow, numpy as np, torch\nimport mlflow_aifsm as aifsm\ndata = np.load('data.npz')\n"
        "images, labels = data['verification_x'], data['verification_y']\nheld_out = aifsm.Verification(images, labels)\n"
        "calibration = aifsm.Data(data['calibration_x'])\nmodel = torch.load('model.pt', weights_only=False)"
    )
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in (start, *blocks("notebooks.md", "python"))]
    )
    nbformat.write(notebook, tmp_path / "study.ipynb")
    done = ran(notebook, tmp_path, MLFLOW_TRACKING_URI=mlflow.get_tracking_uri(), IPYNB_FILE="study.ipynb")
    shown = [[output.data for output in cell.outputs if "data" in output] for cell in done.cells]
    assert "Model Conversion Log" in shown[1][0]["text/html"]
    assert "Model Optimization Log" in shown[4][0]["text/html"]
    assert "'name': 'study.ipynb'" in shown[5][0]["text/plain"]


def slugs(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_anchor_in_a_document_is_a_heading() -> None:
    for document in (*REPOSITORY.glob("*.md"), *DOCS.glob("*.md")):
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", document.read_text("utf-8")):
            text = ((document.parent / target) if target else document).read_text("utf-8")
            assert anchor in slugs(text), f"{document.name}: {target}#{anchor}"


def test_the_index_leads_to_every_guide() -> None:
    linked = {target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", GUIDES["index.md"])}
    assert set(GUIDES) - {"index.md"} <= linked


def test_no_guide_has_a_block_that_no_test_runs() -> None:
    run_elsewhere = {"autolog.md", "command_line.md", "pruning.md", "qat.md", "quantization.md"}
    run_here = {"checking.md", "freezing.md", "notebooks.md", "reports.md"}
    with_code = {name for name in GUIDES if blocks(name, "python") or blocks(name, "bash")}
    assert with_code - {"compare.md"} == run_elsewhere | run_here
    assert [name for name in run_elsewhere - {"command_line.md"} if blocks(name, "bash")] == []
    assert blocks("notebooks.md", "bash") == []
