"""Each shell line of the command line's guide runs as it stands, on the files that the guide itself shows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mlflow_aifsm.operations.config_files import VERBS, read
from tests.command import command
from tests.conftest import REPOSITORY

GUIDE = (REPOSITORY / "docs" / "command_line.md").read_text("utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
SHELL = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
COMMANDS = [line for line in SHELL if line.startswith("mlflow-aifsm ")]
FILES = dict(re.findall(r"`([\w.-]+\.(?:toml|json))`:\n\n```(?:toml|json)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def place(experiment: str, tmp_path: Path) -> Path:
    """The quickstart's model, registered as digits in a database of its own, with the data and the configs of the guide."""
    from examples.quickstart import digits, register, train

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("guide", artifact_location=(tmp_path / "runs").as_uri()))
    data = digits()
    with mlflow.start_run():
        assert register(train(*data["training"], epochs=4), *data["verification"]) == "models:/digits/1"
    images, labels = data["verification"]
    names: dict[str, Any] = {"images": images, "labels": labels, "others": data["calibration"][0]}
    (block,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    exec(compile(block, "command_line.md", "exec"), names)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


@pytest.mark.slow
def test_each_command_of_the_guide_succeeds(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'mlflow.db'}")
    with mlflow.start_run() as run:
        pass
    printed = {}
    for line in COMMANDS:
        done = command(*shlex.split(line.replace("RUN_ID", run.info.run_id))[1:])
        assert (done.code, "Traceback" in done.err) == (0, False), f"{line}\n{done.err}"
        printed[line] = done.out
    assert (place / "frozen" / "model.onnx").is_file()
    outcome = next(json.loads(out) for line, out in printed.items() if line.endswith("--json"))
    table = GUIDE.partition("| key | |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))) == set(outcome)
    assert mlflow.get_run(run.info.run_id).data.tags["aifsm.conversion.status"] == "incomplete"


def test_the_guide_shows_every_command_that_takes_a_file_and_every_kind_of_config(tmp_path: Path) -> None:
    assert {line.split()[1] for line in COMMANDS} == {*VERBS, "record", "check"}
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", GUIDE.partition("| verb | kinds |")[2].partition("\n\n")[0], re.MULTILINE)
    without = {verb: [kind.__name__ for kind in kinds if kind.__name__ != "Gradient"] for verb, kinds in VERBS.items()}
    assert {verb: re.findall(r"`(\w+)`", kinds) for verb, kinds in rows} == without
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
        assert read(tmp_path / name)
    assert len(FILES) == 3
