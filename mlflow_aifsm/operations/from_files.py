"""The verbs with files for arguments, without any Python code: what the command line and a project's entry points ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.operations import config_files, float_model
from mlflow_aifsm.result import Result
from mlflow_aifsm.samples import Data, Samples
from mlflow_aifsm.verification.criterion import Verification


@dataclass(frozen=True, slots=True)
class Asked:
    """What every verb can be asked for besides its model, its data and its config.

    Attributes:
        verified_model: URI or id of the verified learning model.
        verify: ``.npz``, ``.npy`` or Parquet file with held-out samples by input name, and ``labels``.
        limits: What the model must keep, by name of the number.
        reason: Why these limits.
        example: File whose first samples a PyTorch model can be called with.
        responsible: The person who stands for the log.
        log_id: Id of the log.
        run_id: Run to write to.
        register: Name to register the delivered model under.
    """

    verified_model: str | None = None
    verify: Path | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    example: Path | None = None
    responsible: str | None = None
    log_id: str | None = None
    run_id: str | None = None
    register: str | None = None

    @property
    def verification(self) -> Verification | None:
        """The verification; None where there are no held-out samples.

        Raises:
            InputError: If there are limits or a reason without samples, or a limit is unknown.
        """
        if self.verify is None:
            if self.limits or self.reason:
                raise InputError("limits and their reason need samples to be judged on", remedy="add --verify FILE")
            return None
        return Verification(Data(self.verify), limits=self.limits or None, reason=self.reason)

    @property
    def where(self) -> dict[str, Any]:
        """Keywords that every hook takes."""
        named = {"responsible": self.responsible, "log_id": self.log_id, "run_id": self.run_id}
        return {**named, "verified_model": self.verified_model, "registered_model_name": self.register}

    @property
    def keywords(self) -> dict[str, Any]:
        """Keywords that every verb takes."""
        example = None if self.example is None else float_model.example(Samples.of(Data(self.example)))
        return {**self.where, "verification": self.verification, "example_inputs": example}


def freeze(model: str, config: Path | None, asked: Asked) -> Result:
    """``mlflow_aifsm.freeze`` of a model that is named by path or URI.

    Raises:
        InputError: If a file does not fit.
        AifsmError: As ``mlflow_aifsm.freeze`` does.
    """
    what, how = existing(model), None if config is None else config_files.read_for("freeze", config)
    keywords = asked.keywords
    # PyTorch takes seconds to import, and a wrong argument is said before
    from mlflow_aifsm.operations.freeze import freeze as freeze_model

    return freeze_model(what, config=how, **keywords)


def quantize(model: str, data: Path | None, config: Path | None, asked: Asked) -> Result:
    """``mlflow_aifsm.quantize`` of a model that is named by path or URI.

    Raises:
        InputError: If a file does not fit.
        AifsmError: As ``mlflow_aifsm.quantize`` does.
    """
    what, how = existing(model), None if config is None else config_files.read_for("quantize", config)
    from mlflow_aifsm.operations.quantize import quantize as quantize_model

    return quantize_model(what, _data(data), how, **asked.keywords)


def prune(model: str, data: Path | None, config: Path | None, asked: Asked) -> Result:
    """``mlflow_aifsm.prune`` by magnitude of a model that is named by path or URI.

    Raises:
        InputError: If a file does not fit, or the config needs a function.
        AifsmError: As ``mlflow_aifsm.prune`` does.
    """
    what, how = existing(model), None if config is None else config_files.read_for("prune", config)
    from mlflow_aifsm.operations.prune import prune as prune_model

    return prune_model(what, how, data=_data(data), **asked.keywords)


def _data(file: Path | None) -> Data | None:
    return None if file is None else Data(file)


def existing(model: str) -> str:
    """``model``, which is a URI or the path of a file.

    Raises:
        InputError: If there is no such file.
    """
    if not model.startswith(("models:/", "runs:/")) and not Path(model).is_file():
        raise InputError(f"there is no file {model}", expected="the path of a model file, or its models:/ or runs:/ URI")
    return model
