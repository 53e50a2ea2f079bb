"""The same call in two processes, with other hash seeds and working folders, gives the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.operations.quantized_models import small

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from mlflow_aifsm.digests import sha256_file
from mlflow_aifsm.operations import support
from mlflow_aifsm.operations.outcome import Task
from mlflow_aifsm.operations.quantization import NNCF, ORT, Dynamic, Static, WeightOnly
from mlflow_aifsm.samples import Data, Samples

model, archive = sys.argv[1:]
held = np.load(archive)
configs = {
    "default": Static(),
    "entropy": Static(ranges="entropy"),
    "corrected": Static(bias_correction=True),
    "auto": Static(bias_correction="auto", ranges="mse"),
    "target": Static(accuracy_target=0.001, weights="int4", ranges="percentile"),
    "layers": Static(overrides={"Conv": {"weights": "uint8"}, "head": {"weights": "int16"}}, keep_float=("features.3",)),
    "static nncf": Static(backend="nncf", ranges="entropy"),
    "nncf": NNCF(subset_size=64, preset="mixed"),
    "ort": ORT(per_channel=True, calibrate_method="Percentile"),
    "dynamic": Dynamic(),
    "weights": WeightOnly(),
}
found = {}
for name, config in configs.items():
    read = None if name in ("dynamic", "weights") else Samples.of(Data(held["images"], labels=held["labels"]))
    outcome = support.method(config)(Task(Path(model), read, 64), config)
    facts = [[fact.name, fact.value.text, fact.value.data] for fact in outcome.facts]
    tables = {table: [dict(row) for row in rows] for table, rows in outcome.tables.items()}
    found[name] = [sha256_file(outcome.quantized.path), facts, tables, dict(outcome.reasons), list(outcome.notes)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[object]]]:
    archive = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(archive, images=small().images[:64], labels=small().labels[:64])
    running = []
    for seed in ("1", "77"):
        folder = tmp_path_factory.mktemp(f"seed-{seed}")
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])}
        arguments = [sys.executable, "-c", PROGRAM, str(small().path), str(archive)]
        running.append(subprocess.Popen(arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True))
    written = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    return [json.loads(text.splitlines()[-1]) for text in written]


@pytest.mark.parametrize(
    "config",
    ["default", "entropy", "corrected", "auto", "target", "layers", "static nncf", "nncf", "ort", "dynamic", "weights"],
)
def test_two_processes_deliver_the_same_bytes_and_tell_the_same(both: list[dict[str, list[object]]], config: str) -> None:
    first, second = (results[config] for results in both)
    assert first[0] == second[0]
    assert first[1:] == second[1:]


def test_other_settings_deliver_other_bytes(both: list[dict[str, list[object]]]) -> None:
    digests = [results[0] for results in both[0].values()]
    assert len({str(digest) for digest in digests}) == len(digests)
