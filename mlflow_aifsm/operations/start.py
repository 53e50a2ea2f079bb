"""What an optimization starts from: a frozen ONNX file, or a live PyTorch module that can be changed before it is frozen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlflow_aifsm import lineage
from mlflow_aifsm.digests import FileDigest, set_digest
from mlflow_aifsm.lineage import VerifiedModel
from mlflow_aifsm.operations import float_model
from mlflow_aifsm.operations.configs import BATCH, Onnx
from mlflow_aifsm.operations.float_model import FloatModel
from mlflow_aifsm.operations.steps import Step
from mlflow_aifsm.result import Result
from mlflow_aifsm.samples import Samples
from mlflow_aifsm.verification.criterion import Verification


@dataclass(frozen=True, slots=True)
class Start:
    """A model that is going to be optimized.

    Attributes:
        frozen: The float file; None for a live module.
        module: The caller's module, which nobody changes; None for a frozen file.
        example: What the module can be called with, as ``freeze`` takes it.
        model: The verified learning model at the beginning of the chain.
        origin: The MLflow model that the module was loaded from, if it was.
        sha256: Digest of what goes in: of the file set, or of the module's parameters and buffers.
        run_id: Run that a conversion on the way was logged in; empty if there was none.
    """

    frozen: FloatModel | None = None
    module: Any = None
    example: Any = None
    model: VerifiedModel | None = None
    origin: VerifiedModel | None = None
    sha256: str = ""
    run_id: str = ""

    @property
    def files(self) -> tuple[FileDigest, ...]:
        """Digests of the files that go in; none for a module in memory."""
        return self.frozen.files if self.frozen else self.origin.files if self.origin else ()

    @property
    def model_id(self) -> str:
        """MLflow's logged model that goes in, if it is one."""
        return self.frozen.model_id if self.frozen else self.origin.model_id if self.origin else ""

    @property
    def source_uri(self) -> str:
        """Where what goes in lies in MLflow; empty where it does not."""
        return self.frozen.source_uri if self.frozen else self.origin.uri if self.origin else ""

    @property
    def step(self) -> Step:
        """What went in, as the first of the steps."""
        parent = self.frozen.parent if self.frozen else None
        if parent is None:
            return Step("start", "as given", 0, self.sha256)
        return Step("start", f"delivered by optimization log {parent.log_id}", 0, self.sha256, log_id=parent.log_id)

    @property
    def path(self) -> Path | None:
        """The float file; None for a live module."""
        return self.frozen.path if self.frozen else None


@dataclass(frozen=True, slots=True)
class Freezing:
    """How a module is frozen when it has to be: with a dynamic batch, and a Model Conversion Log of its own.

    Attributes:
        example: What the module can be called with, as ``freeze`` takes it.
        verified_model: URI or id of the verified learning model.
        verification: Data of the optimization's verification; the freeze is judged by its own default criterion.
        where: ``responsible``, ``run_id``, ``nested`` of the log.
    """

    example: Any
    verified_model: str | None
    verification: Verification | None
    where: dict[str, Any] = field(default_factory=dict)

    def frozen(self, model: Any, changed: str = "") -> Result:
        """``model`` frozen to ONNX.

        Args:
            model: The module, or the URI of one.
            changed: What changed it since it was verified.

        Raises:
            InputError: If the example does not fit.
            ConversionError: If the exporter fails.
        """
        # a freeze imports PyTorch, which an ONNX file does not need
        from mlflow_aifsm.operations.freeze import freeze

        asked = self.verification
        judged = None if asked is None else replace(asked, limits=None, reason=None, latency=False)
        return freeze(
            model,
            self.example,
            Onnx(dynamic_shapes=BATCH),
            verified_model=self.verified_model,
            verification=judged,
            changed=changed,
            **self.where,
        )


def started(model: Any, samples: Samples | None, freezing: Freezing, *, live: bool) -> Start:
    """The start behind ``model``; what cannot be changed as a module is frozen at once, with its own log.

    Args:
        model: Result of ``freeze`` or of an optimization, path or URI of an ONNX file, an ``onnx.ModelProto``, a PyTorch
            module, or the URI of one.
        samples: Data whose first samples are an example, where the caller gives none.
        freezing: How a module is frozen.
        live: Whether a module shall stay one.

    Raises:
        InputError: If it is none of these, or there is no example of a module's inputs.
        NotFoundError: If a URI names no model.
    """
    if not float_model.is_torch(model):
        frozen = float_model.opened(model, freezing.verified_model)
        return Start(frozen, model=frozen.model, sha256=set_digest(frozen.files))
    module, origin = _loaded(model)
    if live and module is not None:
        return _live(module, origin, samples, freezing)
    example = freezing.example
    if example is None and not isinstance(model, str):
        example = float_model.example(samples, model)
    made = replace(freezing, example=example).frozen(model)
    frozen = float_model.opened(made, freezing.verified_model)
    return Start(frozen, model=frozen.model, sha256=set_digest(frozen.files), run_id=made.run_id)


def _loaded(model: Any) -> tuple[Any, VerifiedModel | None]:
    """The module that can be changed, None for an exported program, which has no layers left; and where it was loaded from."""
    import torch

    from mlflow_aifsm.capture.evaluation_mode import is_exported
    from mlflow_aifsm.operations.sources import loaded

    origin = lineage.resolve(model) if isinstance(model, str) else None
    found = loaded(origin) if origin else model
    changeable = isinstance(found, torch.nn.Module) and not is_exported(found)
    return (found if changeable else None), origin


def _live(module: Any, origin: VerifiedModel | None, samples: Samples | None, freezing: Freezing) -> Start:
    from mlflow_aifsm.capture.torch_module import state_digest

    example = freezing.example
    if example is None and origin is not None:
        example = lineage.input_example(origin)
    if example is None:
        example = float_model.example(samples, module)
    named = lineage.named(freezing.verified_model) or origin
    return Start(module=module, example=example, model=named, origin=origin, sha256=state_digest(module))
