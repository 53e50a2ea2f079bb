"""``freeze``, ``quantize`` and ``prune``: the verbs with files for arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlflow_aifsm.cli.options import EXAMPLE, FILE, JUDGED, MODEL, RESULT, RUN, WHERE, done, options

SHARED = options(*JUDGED, *WHERE, RUN, EXAMPLE, *RESULT)


@click.command("freeze", short_help="Freeze a PyTorch model, and log it.")
@MODEL
@click.option("--config", type=FILE, help="What to freeze to, a TOML or JSON file of kind Onnx or Pt2. [default: Onnx]")
@SHARED
def freeze_command(model: str, config: Path | None, output: str | None, as_json: bool, **asked: Any) -> None:
    """Freeze MODEL, a PyTorch model in MLflow, and log the Model Conversion Log.

    MODEL is its models:/ or runs:/ URI; or the path of a file that another tool froze, which is logged as it is. Gaps and
    findings of the log are shown and are no failure: check and report --strict have exit codes for them.

    \b
    Examples:
      mlflow-aifsm freeze models:/digits/1 --verify held-out.npz --register digits-frozen
      mlflow-aifsm freeze models:/digits/1 --config pt2.toml --responsible 'A. Ito' -o frozen/
    """
    from mlflow_aifsm.operations.from_files import Asked, freeze

    done(lambda: freeze(model, config, Asked(**asked)), output, as_json=as_json)


@click.command("quantize", short_help="Quantize a model, and log it.")
@MODEL
@click.option("--data", type=FILE, help="Calibration samples: an npz with arrays by input name, an npy or a Parquet file.")
@click.option(
    "--config", type=FILE, help="A TOML or JSON file of kind Static, Dynamic, WeightOnly, NNCF or ORT. [default: Static]"
)
@SHARED
def quantize_command(
    model: str, data: Path | None, config: Path | None, output: str | None, as_json: bool, **asked: Any
) -> None:
    """Quantize MODEL after training, and log the Model Optimization Log.

    MODEL is the path of an ONNX file or a models:/ or runs:/ URI; a PyTorch model is frozen first, with a log of its own. Gaps
    and findings of the log are shown and are no failure: check and report --strict have exit codes for them.

    \b
    Examples:
      mlflow-aifsm quantize models:/digits-frozen/1 --data digits.npz --config int8.toml --verify held-out.npz
      mlflow-aifsm quantize model.onnx --data digits.npz --limit accuracy_drop=0.01 --verify held-out.npz -o int8.onnx
    """
    from mlflow_aifsm.operations.from_files import Asked, quantize

    done(lambda: quantize(model, data, config, Asked(**asked)), output, as_json=as_json)


@click.command("prune", short_help="Prune a model by magnitude, and log it.")
@MODEL
@click.option("--data", type=FILE, help="Samples on which batch normalizations adapt: an npz with arrays by input name.")
@click.option("--config", type=FILE, help="A TOML or JSON file of kind Magnitude. [default: half of all weights]")
@SHARED
def prune_command(model: str, data: Path | None, config: Path | None, output: str | None, as_json: bool, **asked: Any) -> None:
    """Prune MODEL by the magnitude of its weights, and log the Model Optimization Log.

    MODEL is the path of an ONNX file or a models:/ or runs:/ URI; a PyTorch model is pruned as a module, then frozen, with a
    log of its own. Pruning by gradients and fine-tuning need functions of yours: call mlflow_aifsm.prune in Python.

    \b
    Examples:
      mlflow-aifsm prune models:/digits/1 --config sparse.toml --verify held-out.npz
      mlflow-aifsm prune model.onnx --config sparse.toml --verify held-out.npz --json | jq .status
    """
    from mlflow_aifsm.operations.from_files import Asked, prune

    done(lambda: prune(model, data, config, Asked(**asked)), output, as_json=as_json)
