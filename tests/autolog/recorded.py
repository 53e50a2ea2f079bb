"""What the tests of ``autolog`` share: it is on while a test runs, a float graph, samples, and the logs of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader

import mlflow_aifsm as aifsm
from mlflow_aifsm.audit import load_record
from mlflow_aifsm.record import Record
from tests.operations.quantized_models import small


@contextmanager
def recording(**settings: bool | str) -> Iterator[None]:
    """``autolog`` with these settings; what fails in it raises, unless they say otherwise."""
    small()  # made by an export, which is none of the test's
    aifsm.autolog(**{"strict": True, **settings})
    try:
        yield
    finally:
        aifsm.autolog(disable=True)


def graph() -> onnx.ModelProto:
    """The small net, without noted shapes, which ONNX Runtime's dynamic quantizer contradicts."""
    model = onnx.load(small().path)
    del model.graph.value_info[:]
    return model


def images(count: int = 24) -> list[np.ndarray]:
    """Digits, each ``[1, 1, 8, 8]``."""
    return [small().images[index : index + 1] for index in range(count)]


def fed(image: np.ndarray) -> dict[str, np.ndarray]:
    """What the graph takes."""
    return {"image": image}


class Reader(CalibrationDataReader):
    """A reader as ONNX Runtime's examples write it: it can be read once."""

    def __init__(self, count: int = 24) -> None:
        self.items = iter([fed(image) for image in images(count)])
        self.read = 0

    def get_next(self) -> Any:
        item = next(self.items, None)
        self.read += item is not None
        return item


def the_log(run_id: str, log: str = "optimization") -> Record:
    """The only log of that template in the run and its children."""
    assert not children(run_id)
    return load_record(run_id, log)


def children(run_id: str) -> list[str]:
    """Ids of the runs that are nested in a run."""
    experiment = mlflow.get_run(run_id).info.experiment_id
    found = mlflow.MlflowClient().search_runs([experiment], f"tags.mlflow.parentRunId = '{run_id}'")
    return [run.info.run_id for run in found]


def artifact(run_id: str, name: str) -> str:
    """Text of an artifact of the run."""
    return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name)).read_text("utf-8")
