"""The flavor: the frozen file itself, byte for byte, behind MLflow's own loader.

``mlflow.onnx.save_model`` writes the graph anew, with weights in a file of a random name, so the bytes that were verified are not
those that are served. Here the file set is copied as it is; the model still declares ``mlflow.onnx`` as its loader, so it loads
and serves where this package is not installed. The record and its manifest lie in the model's folder ``aifsm/``.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.onnx
import mlflow.pyfunc
import numpy as np
import onnx
from mlflow.models import Model, ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import Schema, TensorSpec

from mlflow_aifsm.capture.onnx_graph import file_set, inputs_outputs
from mlflow_aifsm.errors import InputError

FLAVOR_NAME = "aifsm"
EXTRAS = "aifsm"
"""Folder inside the model that holds record and manifest."""


def get_default_pip_requirements() -> list[str]:
    """What serving needs, pinned to what is installed; this package is not among it."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in ("mlflow", "onnx", "onnxruntime", "numpy")]


def save_model(
    model: str | Path,
    path: str | Path,
    *,
    mlflow_model: Model | None = None,
    signature: ModelSignature | None = None,
    extras: Iterable[Path] = (),
    facts: Mapping[str, Any] | None = None,
    pip_requirements: list[str] | None = None,
) -> None:
    """Saves an ONNX file with its external data as an MLflow model, without changing a byte of it.

    Args:
        model: The ``.onnx`` file; its external data is copied with it.
        path: Folder to make.
        mlflow_model: Model to add the flavors to; ``Model.log`` gives one.
        signature: Signature to store; read from the graph if none is given.
        extras: Files to copy into the model's folder ``aifsm/``: record and manifest.
        facts: What the ``aifsm`` flavor says in ``MLmodel``: log id, digests.
        pip_requirements: Requirements to store; never inferred, because inference loads the model in another process.

    Raises:
        InputError: If ``model`` is no ONNX file, or ``path`` is not empty.
    """
    source, target = Path(model), Path(path)
    if target.exists() and any(target.iterdir()):
        raise InputError(f"folder {target}", got="files in it", expected="an empty or a new folder")
    files = file_set(source)
    for file in files:
        _copy(source.parent / file.path, target / file.path)
    for extra in extras:
        _copy(extra, target / EXTRAS / extra.name)
    described = mlflow_model or Model()
    described.signature = signature or described.signature or signature_of(source)
    requirements = pip_requirements or get_default_pip_requirements()
    _environment(target, requirements)
    _flavors(described, source.name, {"files": {file.path: file.sha256 for file in files}, **(facts or {})})
    described.model_size_bytes = sum(file.size for file in files)
    described.save(str(target / "MLmodel"))


def log_model(
    model: str | Path,
    name: str,
    *,
    run_id: str | None = None,
    registered_model_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    step: int = 0,
    **saving: Any,
) -> ModelInfo:
    """Logs an ONNX file as a model of a run, byte for byte; ``saving`` goes to ``save_model``.

    Raises:
        InputError: If ``model`` is no ONNX file.
    """
    info: ModelInfo = Model.log(
        artifact_path=None,
        flavor=sys.modules[__name__],
        name=name,
        run_id=run_id,
        registered_model_name=registered_model_name,
        tags=dict(tags or {}),
        step=step,
        model=model,
        **saving,
    )
    return info


def load_model(model_uri: str) -> onnx.ModelProto:
    """The frozen graph, loaded and checked by MLflow's own ONNX flavor; nothing is unpickled."""
    loaded: onnx.ModelProto = mlflow.onnx.load_model(model_uri)
    return loaded


def signature_of(model: Path) -> ModelSignature:
    """MLflow signature of an ONNX file: a tensor for each input and output, -1 for each dimension that is not fixed."""
    inputs, outputs = inputs_outputs(model)
    return ModelSignature(inputs=_schema(inputs), outputs=_schema(outputs))


def _schema(tensors: Iterable[Mapping[str, Any]]) -> Schema:
    return Schema([TensorSpec(np.dtype(tensor["dtype"]), _shape(tensor["shape"]), tensor["name"]) for tensor in tensors])


def _shape(dimensions: Iterable[Any]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else -1 for size in dimensions)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _flavors(model: Model, data: str, facts: Mapping[str, Any]) -> None:
    model.add_flavor(FLAVOR_NAME, mlflow_aifsm_version=version("mlflow-aifsm"), **facts)
    # mlflow.onnx reads its own entry when a pyfunc names it as loader; a silent fallback from CUDA would change the runtime
    onnx_entry = {"onnx_session_options": None, "providers": ["CPUExecutionProvider"], "code": None}
    model.add_flavor("onnx", onnx_version=onnx.__version__, data=data, **onnx_entry)
    environment = {"conda_env": "conda.yaml", "python_env": "python_env.yaml"}
    mlflow.pyfunc.add_to_model(model, loader_module="mlflow.onnx", data=data, **environment)


def _environment(folder: Path, requirements: list[str]) -> None:
    python = ".".join(str(part) for part in sys.version_info[:3])
    pinned = "".join(f"    - {line}\n" for line in requirements)
    conda = f"channels:\n- conda-forge\ndependencies:\n- python={python}\n- pip\n- pip:\n{pinned}name: mlflow-env\n"
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", "utf-8")
    (folder / "conda.yaml").write_text(conda, "utf-8")
    (folder / "python_env.yaml").write_text(
        f"python: {python}\nbuild_dependencies:\n- pip\ndependencies:\n- -r requirements.txt\n", "utf-8"
    )


def load_pytorch(folder: Path) -> Any:
    """The module of an MLflow PyTorch model saved as pickle, loaded by MLflow, which unpickles it."""
    # PyTorch is imported by it, and reading a log must not need PyTorch
    import mlflow.pytorch

    return mlflow.pytorch.load_model(str(folder), map_location="cpu")
