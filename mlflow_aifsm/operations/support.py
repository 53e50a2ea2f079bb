"""Which backend can do what: one table, read from ``support.toml``, asked before work starts."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from mlflow_aifsm.errors import InputError, OptimizationError
from mlflow_aifsm.operations.outcome import Outcome, Task
from mlflow_aifsm.operations.quantization import ACTIVATIONS, NNCF, ORT, WEIGHTS, Dynamic, Quantization, Static, WeightOnly

ANY = "*"
REFUSED = "refused"
HALF = 10
"""Number of float16 among ONNX's types."""
Method = Callable[[Task, Any], Outcome]


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing that can be asked, by what tells it apart.

    Attributes:
        technique: ``static``, ``dynamic`` or ``weight-only``.
        backend: ``onnxruntime`` or ``nncf``.
        weights: Type of weights.
        activations: Type of activations.
        weight_scheme: ``symmetric`` or ``asymmetric``.
        activation_scheme: The same for activations.
        weight_granularity: ``layer``, ``channel`` or ``group``.
        activation_granularity: The same for activations.
    """

    technique: str
    backend: str
    weights: str = ANY
    activations: str = ANY
    weight_scheme: str = ANY
    activation_scheme: str = ANY
    weight_granularity: str = ANY
    activation_granularity: str = ANY


@dataclass(frozen=True, slots=True)
class Support:
    """One row of the table: the cells it is about (words, space between alternatives), and what becomes of them.

    Attributes:
        cell: The cells.
        does: ``integer``, ``float``, ``partly`` or ``refused``.
        why: The reason, where it is not ``integer``.
        instead: What can be asked instead.
    """

    cell: Cell
    does: str
    why: str = ""
    instead: str = ""

    def fits(self, asked: Cell) -> bool:
        """Whether the row is about ``asked``."""
        pairs = ((getattr(self.cell, one.name), getattr(asked, one.name)) for one in fields(Cell))
        return all(ANY in {known, given} or given in known.split() for known, given in pairs)


@cache
def table() -> tuple[Support, ...]:
    """All rows; a cell takes the first that fits it."""
    content = tomllib.loads((resources.files("mlflow_aifsm.operations") / "support.toml").read_text(encoding="utf-8"))
    told = {one.name for one in fields(Cell)}
    return tuple(
        Support(
            Cell(**{name: value for name, value in row.items() if name in told}),
            **{name: value for name, value in row.items() if name not in told},
        )
        for row in content["row"]
    )


def support(cell: Cell) -> Support:
    """What becomes of ``cell``."""
    return next(row for row in table() if row.fits(cell))


def backend(config: Static) -> str:
    """The backend of ``config``; ``auto`` is the one that its runtime runs in integers."""
    if config.backend != "auto":
        return config.backend
    return "onnxruntime" if config.runs_on == "onnxruntime" else "nncf"


def cell(config: Static | Dynamic | WeightOnly) -> Cell:
    """The cell that ``config`` asks for."""
    if isinstance(config, Dynamic):
        how = {"weight_scheme": config.scheme, "weight_granularity": config.granularity}
        return Cell("dynamic", "onnxruntime", config.weights, **how)
    if isinstance(config, WeightOnly):
        return Cell("weight-only", "onnxruntime", weight_scheme=config.scheme, weight_granularity="group")
    schemes, granularities = config.schemes, config.granularities
    return Cell(
        "static",
        backend(config),
        config.weights,
        config.activations,
        schemes[WEIGHTS],
        schemes[ACTIVATIONS],
        granularities[WEIGHTS],
        granularities[ACTIVATIONS],
    )


def check(config: Quantization) -> None:
    """Refuses what the backend cannot do, and names what can.

    Raises:
        InputError: If it cannot.
    """
    if isinstance(config, NNCF | ORT):
        return
    asked = cell(config)
    found = support(asked)
    if found.does == REFUSED:
        raise InputError(f"{asked.backend} cannot do this: {found.why}", got=_told(asked), remedy=f"ask for {found.instead}")
    if isinstance(config, Static) and asked.backend == "nncf" and config.overrides:
        raise InputError("nncf has no settings by layer", got="overrides", remedy="ask for backend='onnxruntime'")


def check_data(config: Quantization, *, given: bool) -> None:
    """Refuses a quantization that needs calibration data without them, and one that reads none with them.

    Raises:
        InputError: If it does not fit.
    """
    name, reads = type(config).__name__, not isinstance(config, Dynamic | WeightOnly)
    if reads and not given:
        raise InputError("no calibration data", expected=f"data, which {name} reads", remedy="pass data=, or use Dynamic()")
    if given and not reads:
        raise InputError(
            f"{name} reads no calibration data", got="data", expected="None", remedy="leave data out, or use Static()"
        )


def method(config: Quantization) -> Method:
    """What does it, with a look at the model before and at the file after; frameworks are imported only now."""
    from mlflow_aifsm.operations import static_nncf, static_onnxruntime, uncalibrated, verbatim

    methods: dict[type, Method] = {
        Dynamic: uncalibrated.quantize_dynamic,
        WeightOnly: uncalibrated.quantize_weights,
        NNCF: verbatim.quantize_nncf,
        ORT: verbatim.quantize_ort,
    }
    if isinstance(config, Static):
        methods[Static] = static_nncf.quantize if backend(config) == "nncf" else static_onnxruntime.quantize

    def checked(task: Task, config: Any) -> Outcome:
        check_model(task.path, config)
        made = methods[type(config)](task, config)
        _check_file(made)
        return made

    return checked


def check_model(path: Path, config: Quantization) -> None:
    """Refuses a file that is quantized already, and one in half precision where codes need scales of single precision.

    Raises:
        InputError: If it is one of these.
    """
    from mlflow_aifsm.capture.onnx_graph import initializers, read

    model = read(path)
    if found := _quantizer(model):
        raise InputError(f"{path.name} is quantized already", got=found, expected="a file that computes with floats")
    half = next((tensor.name for tensor in initializers(model) if tensor.data_type == HALF), "")
    if half and isinstance(config, Static | Dynamic):
        remedy = "freeze it in float32, or ask for WeightOnly() or ORT()"
        raise InputError(
            f"weights of {path.name} are in half precision", got=f"float16 in {half}", expected="float32", remedy=remedy
        )


def _check_file(made: Outcome) -> None:
    from mlflow_aifsm.capture.onnx_graph import read

    if not _quantizer(read(made.quantized.path)):
        kept = f"{len(made.reasons)} nodes kept in float" if made.reasons else "no layer that it knows"
        raise OptimizationError(
            f"{made.quantized.function} quantized nothing", got=kept, expected="at least one quantized layer"
        )


def _quantizer(model: Any) -> str:
    """The first node of a graph that shows that it is quantized; empty if there is none."""
    from mlflow_aifsm.capture.float_layers import INTEGER_LAYERS, WEIGHT_ONLY_LAYERS
    from mlflow_aifsm.capture.onnx_graph import node_name, nodes

    known = {"QuantizeLinear", "DequantizeLinear", *INTEGER_LAYERS, *WEIGHT_ONLY_LAYERS}
    return next((f"{node.op_type} '{node_name(node)}'" for node in nodes(model) if node.op_type in known), "")


def _told(asked: Cell) -> str:
    return ", ".join(f"{one.name} {value}" for one in fields(Cell) if (value := getattr(asked, one.name)) != ANY)
