"""Whether a run is active here. MLflow, which takes seconds to import, is not imported for the question."""

from __future__ import annotations

import sys


def has_run() -> bool:
    """Whether this thread has an active run; MLflow's runs belong to the thread that started them."""
    mlflow = sys.modules.get("mlflow")
    return mlflow is not None and getattr(mlflow, "active_run", lambda: None)() is not None
