"""The flavor: the frozen file itself, byte for byte, behind MLflow's own loader.

``mlflow.onnx.save_model`` writes the graph anew, with weights in a file of a random name, and ``mlflow.pytorch.save_model``
traces the module again, so the bytes that were verified are not those that are served. Here the file set is copied as it is;
the model still declares ``mlflow.onnx`` or ``mlflow.pytorch`` as its loader, so it loads and serves where this package is not
installed. The record and its manifest lie in the model's folder ``aifsm/``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.artifacts
import mlflow.onnx
import mlflow.pyfunc
import numpy as np
import onnx
from mlflow.models import Model, ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import Schema, TensorSpec

from mlflow_aifsm.capture.file_kind import FileKind, kind_of
from mlflow_aifsm.capture.frozen import delivery_name, file_set, interface
from mlflow_aifsm.errors import InputError

FLAVOR_NAME = "aifsm"
ENVIRONMENT = {"conda_env": "conda.yaml", "python_env": "python_env.yaml"}
EXTRAS = "aifsm"
"""Folder inside the model that holds record and manifest."""


PICKLE_MODULE = "pickle_module_info.txt"
"""Names the module that MLflow hands to ``torch.load``, which passes a TorchScript on to ``torch.jit.load`` unused."""


def get_default_pip_requirements(kind: FileKind = FileKind.ONNX) -> list[str]:
    """What serving a file of this kind needs, pinned to what is installed; this package is not among it."""
    runtime = ("onnx", "onnxruntime") if kind is FileKind.ONNX else ("torch",)
    return [f"{name}=={version(name).partition('+')[0]}" for name in ("mlflow", *runtime, "numpy")]


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
    """Saves a frozen file, an ONNX file with its external data, as an MLflow model, without changing a byte of it.

    Args:
        model: The ONNX file, its external data is copied with it; or the pt2 or TorchScript archive.
        path: Folder to make.
        mlflow_model: Model to add the flavors to; ``Model.log`` gives one.
        signature: Signature to store; read from the graph if none is given.
        extras: Files to copy into the model's folder ``aifsm/``: record and manifest.
        facts: What the ``aifsm`` flavor says in ``MLmodel``: log id, digests.
        pip_requirements: Requirements to store; never inferred, because inference loads the model in another process.

    Raises:
        InputError: If ``model`` is no frozen file, or ``path`` is not empty.
    """
    source, target = Path(model), Path(path)
    if target.exists() and any(target.iterdir()):
        raise InputError(f"folder {target}", got="files in it", expected="an empty or a new folder")
    files = file_set(source)
    _check_names(file.path for file in files)
    kind = kind_of(source)
    data = delivery_name(source)
    for file in files:
        _copy(source.parent / file.path, target / (data if file.path == source.name else file.path))
    for extra in extras:
        _copy(extra, target / EXTRAS / extra.name)
    described = mlflow_model or Model()
    described.signature = signature or described.signature or signature_of(source)
    requirements = pip_requirements or get_default_pip_requirements(kind)
    _environment(target, requirements)
    digests = {data if file.path == source.name else file.path: file.sha256 for file in files}
    if kind is FileKind.TORCHSCRIPT:
        (target / PICKLE_MODULE).write_text("pickle", "utf-8")
    _flavors(described, kind, data, {"files": digests, **(facts or {})})
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
    """Logs a frozen file as a model of a run, byte for byte; ``saving`` goes to ``save_model``.

    Raises:
        InputError: If ``model`` is no frozen file.
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


def load_model(model_uri: str) -> Any:
    """The frozen model, with nothing unpickled: ``onnx.ModelProto``, ``torch.export.ExportedProgram`` or ``ScriptModule``.

    An ONNX file is loaded and checked by MLflow's own flavor. A pt2 archive is looked through before PyTorch loads it.

    Raises:
        InputError: If the file is damaged, hostile, or no frozen model of this package.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(mlflow.artifacts.download_artifacts(artifact_uri=model_uri, dst_path=folder))
        flavors = Model.load(str(place)).flavors
        if "onnx" in flavors:
            return mlflow.onnx.load_model(str(place))
        return _torch_model(place, flavors.get(FLAVOR_NAME, {}).get("files", {}))


def _torch_model(folder: Path, files: Mapping[str, str]) -> Any:
    if not files:
        raise InputError("no frozen model of this package", remedy="load it with MLflow, which may unpickle it")
    path = folder / next(iter(files))
    # PyTorch takes seconds to import, and an ONNX file does not need it
    from mlflow_aifsm.capture import pt2_file, torchscript_file

    return pt2_file.load(path) if kind_of(path) is FileKind.PT2 else torchscript_file.load(path)


def signature_of(model: Path) -> ModelSignature | None:
    """MLflow signature of a frozen file: a tensor for each input and output, -1 for each dimension that is not fixed.

    None for a TorchScript, whose file tells neither element types nor shapes, and for types that NumPy does not know.
    """
    described, named = interface(model), kind_of(model) is FileKind.ONNX
    if described is None:
        return None
    try:
        inputs, outputs = (_schema(tensors, named=named) for tensors in described)
    except TypeError:
        return None
    return ModelSignature(inputs=inputs, outputs=outputs)


def _schema(tensors: list[dict[str, Any]], *, named: bool) -> Schema:
    """The only tensor of a PyTorch model goes without its name: MLflow would pass it as a dict, which its flavor refuses."""
    names = [tensor["name"] for tensor in tensors] if named or len(tensors) > 1 else [None]
    pairs = zip(tensors, names, strict=True)
    return Schema([TensorSpec(np.dtype(tensor["dtype"]), _shape(tensor["shape"]), name) for tensor, name in pairs])


def _shape(dimensions: Iterable[Any]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else -1 for size in dimensions)


def _check_names(names: Iterable[str]) -> None:
    """External data may have any name that a file may have, also those of the files that MLflow puts beside it."""
    taken = {"MLmodel", "requirements.txt", "conda.yaml", "python_env.yaml", PICKLE_MODULE}
    for name in names:
        if name in taken or Path(name).parts[0] == EXTRAS:
            raise InputError(
                f"file {name} of the model", expected="another name: MLflow needs this one", remedy="export it again"
            )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _flavors(model: Model, kind: FileKind, data: str, facts: Mapping[str, Any]) -> None:
    model.add_flavor(FLAVOR_NAME, mlflow_aifsm_version=version("mlflow-aifsm"), **facts)
    if kind is FileKind.ONNX:
        _onnx(model, data)
    else:
        _pytorch(model)


def _onnx(model: Model, data: str) -> None:
    # mlflow.onnx reads its own entry when a pyfunc names it as loader; a silent fallback from CUDA would change the runtime
    onnx_entry = {"onnx_session_options": None, "providers": ["CPUExecutionProvider"], "code": None}
    model.add_flavor("onnx", onnx_version=onnx.__version__, data=data, **onnx_entry)
    mlflow.pyfunc.add_to_model(model, loader_module="mlflow.onnx", data=data, **ENVIRONMENT)


def _pytorch(model: Model) -> None:
    # mlflow.pytorch looks for the archive under a name of its own in this folder
    model.add_flavor("pytorch", model_data=".", pytorch_version=version("torch"), code=None)
    # its pyfunc feeds one array only, so MLflow itself declares none for a model of several inputs
    if model.signature is None or len(model.signature.inputs.inputs) == 1:
        mlflow.pyfunc.add_to_model(model, loader_module="mlflow.pytorch", data=".", **ENVIRONMENT)


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
