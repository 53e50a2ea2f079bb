"""``autolog``: exporters and quantizers that a script calls anyway are recorded in its run."""

from __future__ import annotations

import threading

from mlflow_aifsm.autologging import table, wrapping
from mlflow_aifsm.autologging.patching import Patches
from mlflow_aifsm.autologging.wrapping import Settings

# a package that adds rows may call autolog when it is imported for them
_switching = threading.RLock()
_patches = Patches(wrapping.wrapped)


def autolog(
    *, disable: bool = False, create_run: bool = False, strict: bool = False, verified_model: str | None = None
) -> None:
    """Records calls of exporters and quantizers in the active MLflow run, each as a log of AI-FSM, without a change to them.

    Covered are ``torch.onnx.export`` (Model Conversion Log), and ``nncf.quantize``, ``nncf.quantize_with_accuracy_control``,
    ``nncf.compress_weights``, ``nncf.prune``, ``onnxruntime.quantization.quantize_static`` and ``quantize_dynamic`` (Model
    Optimization Log), and what other packages add by the entry point group ``mlflow_aifsm.autolog``; also under names that
    were imported before, and in libraries that are imported later. Not covered is what no module holds under a name: closures,
    default arguments, ``functools.partial``, attributes of instances.

    What a call returns and raises is what it returns and raises without this. Calls on the way of another recorded call or of
    a verb of this package belong to its log. Without an active run nothing happens. What a call cannot tell, the responsible
    person for instance, comes from ``aifsm.toml`` or ``MLFLOW_AIFSM_*``, else it is not recorded.

    Calling it again changes the settings and wraps nothing twice. Threads may call it, and the functions, at the same time.

    Args:
        disable: Puts every function back.
        create_run: Whether a call outside any run starts one for its log; else it is not recorded.
        strict: Whether a failure of the recording raises; else it is a warning of logger ``mlflow_aifsm.autologging``.
        verified_model: URI or id of the verified learning model that the calls work on; that of the settings if None. What goes
            into a call is compared with it, as far as both can be read.

    Raises:
        Exception: With ``strict``, if an entry point yields no rows: that of its import, or a ``ConfigError``.

    Example:
        >>> import mlflow_aifsm as aifsm
        >>> aifsm.autolog()
        >>> aifsm.autolog(disable=True)
    """
    with _switching:
        wrapping.settings = Settings(not disable, create_run, strict, verified_model)
        if disable:
            _patches.undo()
            return
        _patches.apply((*table.BUILT_IN, *table.added(wrapping.problem)))
