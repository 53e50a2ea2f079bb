"""``mlflow-aifsm``: commands by name, loaded when they are called, and errors as one line."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from importlib.metadata import version

import click

from mlflow_aifsm import config
from mlflow_aifsm.errors import AifsmError

COMMANDS: Mapping[str, str] = {
    "freeze": "mlflow_aifsm.cli.verbs",
    "quantize": "mlflow_aifsm.cli.verbs",
    "prune": "mlflow_aifsm.cli.verbs",
    "record": "mlflow_aifsm.cli.record",
    "inspect": "mlflow_aifsm.cli.inspect",
    "report": "mlflow_aifsm.cli.report",
    "compare": "mlflow_aifsm.cli.compare",
    "check": "mlflow_aifsm.cli.logs",
    "declare": "mlflow_aifsm.cli.logs",
    "templates": "mlflow_aifsm.cli.templates",
    "validate-tool": "mlflow_aifsm.cli.validate",
}
"""Where each command lives; its function there is called ``<name>_command``, hyphens as underscores."""


class _Commands(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name]), f"{cmd_name.replace('-', '_')}_command")
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("mlflow-aifsm"), prog_name="mlflow-aifsm")
def group() -> None:
    """Model Conversion Log and Model Optimization Log of AI-FSM for models in MLflow.

    TARGET is a run id, a runs:/ or models:/ URI, a model folder, or a model file (its run is found by its digest). The tracking
    server is MLflow's own setting, MLFLOW_TRACKING_URI.

    \b
    Exit codes: 0 all well · 1 the tool failed · 2 usage · 3 fields unanswered · 4 open findings
                5 integrity or approval broken

    \b
    Examples:
      mlflow-aifsm freeze models:/digits/1                  a frozen model, with its Model Conversion Log
      mlflow-aifsm quantize models:/digits-frozen/1 --data digits.npz --config int8.toml
      mlflow-aifsm inspect model.onnx                       what a file is, without any run
      mlflow-aifsm report 0a1b2c3d…                         both logs of a run as HTML
      mlflow-aifsm compare --experiment digits              logs side by side, the best ones marked
      mlflow-aifsm check models:/digits-int8/2              what is open, and whether all digests hold
      mlflow-aifsm declare 0a1b2c3d… responsible='A. Ito' --by 'A. Ito' --log conversion
    """


def main() -> None:
    """Entry point of the console script: an error is one line on stderr, and its kind is the exit code."""
    # a server that is not there is said within seconds, not after MLflow's default of minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    # bars of downloads that take no time would stand between the lines that are for the reader
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        group.main(standalone_mode=False)
    except AifsmError as error:
        _fail(str(error), error.exit_code)
    except click.Abort:
        _fail("interrupted.", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if _traceback_wanted():
            raise
        words = " ".join(str(error).split())
        _fail(f"{type(error).__name__}: {words}; set MLFLOW_AIFSM_TRACEBACK=1 to see where.", 1)


def _traceback_wanted() -> bool:
    try:
        return config.load().traceback
    except AifsmError:
        return False


def _fail(line: str, code: int) -> None:
    click.secho(f"mlflow-aifsm: {line}", fg="red", err=True)
    sys.exit(code)
