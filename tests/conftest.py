"""Settings that all tests share: no telemetry, one database a session, nothing of the developer's own configuration."""

from __future__ import annotations

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["NNCF_CI"] = "1"
os.environ["MLFLOW_AIFSM_QUIET"] = "1"
os.environ["MLFLOW_AIFSM_RESPONSIBLE"] = "A. Ito"
