"""Lightning's ``Trainer`` as the training loop: a callback tells what the loop knows. Which Lightning is the user's choice."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mlflow_aifsm.errors import InputError

if TYPE_CHECKING:
    from mlflow_aifsm.operations.qat_session import QuantizationAwareTraining

PACKAGES = ("lightning", "pytorch_lightning")
"""Lightning's two names; the classes of one are not those of the other."""


def callback(training: QuantizationAwareTraining) -> Any:
    """A callback for ``Trainer(callbacks=[…])``: optimizers, schedulers and each epoch's metrics.

    Raises:
        InputError: If Lightning is not installed.
    """
    base = _callback_class()

    class Epochs(base):  # type: ignore[misc, valid-type]
        """Tells a quantization-aware training what the Trainer does."""

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002 -- the hook's own signature
            """Tells optimizers with their schedulers."""
            schedulers = [setting.scheduler for setting in trainer.lr_scheduler_configs]
            for optimizer in trainer.optimizers:
                own = next((one for one in schedulers if getattr(one, "optimizer", None) is optimizer), False)
                training.optimizer(optimizer, own)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002 -- the hook's own signature
            """Ends the epoch with the numbers that were logged in it."""
            training.epoch({str(name): float(value) for name, value in trainer.callback_metrics.items()})

    return Epochs()


def _callback_class() -> Any:
    known = [name for name in PACKAGES if name in sys.modules] or [name for name in PACKAGES if find_spec(name) is not None]
    if not known:
        raise InputError(
            "Lightning is not installed", expected="lightning or pytorch_lightning", remedy="pip install lightning"
        )
    return importlib.import_module(f"{known[0]}.pytorch" if known[0] == "lightning" else known[0]).Callback
