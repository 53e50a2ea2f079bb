"""Training that was interrupted, on disk: tensors in safetensors, all else in JSON, and no code, as a pickle would be.

The JSON file is written last and replaced at once: it names the tensors' file with its digest, so that a process that dies
while it writes leaves the state before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer

from mlflow_aifsm.backends.quantized import plain
from mlflow_aifsm.codec import dumps, loads, structure, unstructure
from mlflow_aifsm.digests import file_digest
from mlflow_aifsm.errors import InputError, NotFoundError
from mlflow_aifsm.facts import Json

STATE = "qat.json"
FORMAT = 1
"""Version of what the folder holds."""
MODEL, BEFORE, CODES, RANDOM = "model.", "before.", "codes.", "random."
"""What names of tensors begin with: the trained state, the state before training, weight codes before it, generators."""
OPTIMIZER = "optimizer."

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class State:
    """All of a training but its tensors.

    Attributes:
        format: Version of the format.
        run_id: The run.
        log_id: The log.
        base_sha256: Digest of the module that training began with.
        quantizers: Where NNCF's quantizers stand, as NNCF describes it.
        asked: What was asked, to be compared with what is asked on resuming.
        start: What is known since before training, as the session wrote it.
        told: What the caller said.
        metrics: Numbers by epoch; None for what was not finite, which JSON has no number for.
        groups: Parameter groups as they were seen.
        sessions: Seed and place of each session.
        optimizers: State dicts of the optimizers, tensors left out.
        schedulers: State dicts of the schedulers that have plain ones.
        tensors: File of the tensors.
        sha256: Its digest.
    """

    format: int
    run_id: str
    log_id: str
    base_sha256: str
    quantizers: Json
    asked: Json
    start: Json
    told: Json
    metrics: list[dict[str, float | None]]
    groups: list[Json]
    sessions: list[Json]
    optimizers: list[Json] = field(default_factory=list)
    schedulers: list[Json] = field(default_factory=list)
    tensors: str = ""
    sha256: str = ""


def save(folder: Path, state: State, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes a state; the one before is removed when the new one stands.

    Raises:
        InputError: If the folder cannot be written to.
    """
    name = f"qat-{uuid4().hex[:12]}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}, folder / name)
        whole = {**unstructure(state), "tensors": name, "sha256": file_digest(folder / name).sha256}
        draft = folder / f"{STATE}.new"
        draft.write_bytes(dumps(whole))
        os.replace(draft, folder / STATE)  # noqa: PTH105 -- says that it replaces
        for old in folder.glob("qat-*.safetensors"):
            if old.name != name:
                old.unlink()
    except OSError as error:
        raise InputError(
            f"the checkpoint cannot be written to {folder}", got=error.strerror, remedy="name another folder"
        ) from error


def load(folder: Path) -> tuple[State, Tensors]:
    """The state in a folder.

    Raises:
        NotFoundError: If there is none.
        InputError: If it was changed or damaged, or is of a newer format.
        RecordError: If its JSON does not fit.
    """
    path = folder / STATE
    if not path.is_file():
        raise NotFoundError(f"there is no checkpoint in {folder}", remedy="begin without resume=True")
    state = structure(loads(path.read_bytes()), State, "checkpoint")
    if state.format != FORMAT:
        raise InputError(f"checkpoint {path}", got=f"format {state.format}", expected=f"format {FORMAT}")
    file = folder / Path(state.tensors).name
    if not file.is_file() or file_digest(file).sha256 != state.sha256:
        raise InputError(f"tensors of checkpoint {path} are missing or were changed", got=file.name, expected=state.sha256)
    try:
        return state, load_file(file)
    except SafetensorError as error:
        raise InputError(f"checkpoint {file} cannot be read: {error}") from error


def part(tensors: Mapping[str, torch.Tensor], prefix: str) -> Tensors:
    """The tensors whose names begin with ``prefix``, under the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """The tensors under names that begin with ``prefix``."""
    return {prefix + name: value for name, value in tensors.items()}


def optimizer_state(optimizers: Sequence[Optimizer]) -> tuple[list[Json], Tensors]:
    """State dicts of optimizers: what is plain, and the tensors by ``<optimizer>.<parameter>.<name>``."""
    said: list[Json] = []
    tensors: Tensors = {}
    for number, optimizer in enumerate(optimizers):
        content = optimizer.state_dict()
        kept: dict[str, dict[str, Json]] = {}
        for place, values in content["state"].items():
            tensors |= {f"{OPTIMIZER}{number}.{place}.{name}": one for name, one in values.items() if torch.is_tensor(one)}
            kept[str(place)] = {name: plain(one) for name, one in values.items() if not torch.is_tensor(one)}
        said.append({"state": kept, "param_groups": [plain(group) for group in content["param_groups"]]})
    return said, tensors


def restore_optimizer(
    optimizer: Optimizer, number: int, content: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Gives an optimizer the state it had.

    Raises:
        InputError: If it has other parameter groups.
    """
    state: dict[int, dict[str, Any]] = {int(place): dict(values) for place, values in content["state"].items()}
    for name, value in part(tensors, f"{OPTIMIZER}{number}.").items():
        place, _, key = name.partition(".")
        state.setdefault(int(place), {})[key] = value
    groups = [
        {**mine, **theirs}
        for mine, theirs in zip(optimizer.state_dict()["param_groups"], content["param_groups"], strict=False)
    ]
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (ValueError, KeyError) as error:
        expected = f"the parameter groups of the interrupted training ({len(content['param_groups'])})"
        raise InputError(f"{type(optimizer).__name__} is another optimizer: {error}", expected=expected) from error


def plain_state(scheduler: Any) -> Json:
    """What is plain in the state dict of a learning-rate scheduler."""
    state = scheduler.state_dict()
    return {name: value for name, value in state.items() if isinstance(value, bool | int | float | str | list | None)}


def generators() -> Tensors:
    """State of PyTorch's random generators."""
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {f"{RANDOM}cpu": torch.get_rng_state(), **{f"{RANDOM}cuda.{number}": one for number, one in enumerate(devices)}}


def restore_generators(tensors: Mapping[str, torch.Tensor]) -> None:
    """Puts PyTorch's random generators where they were, as far as this host has the same devices."""
    found = part(tensors, RANDOM)
    torch.set_rng_state(found["cpu"])
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda.{number}" in found:
            torch.cuda.set_rng_state(found[f"cuda.{number}"], number)
