"""The table of what each backend can do: every cell is refused before work starts, or does what the table says."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from mlflow_aifsm.capture import quantizers
from mlflow_aifsm.capture.quantizer import WEIGHT
from mlflow_aifsm.errors import AifsmError, InputError
from mlflow_aifsm.fill import agrees
from mlflow_aifsm.operations import support
from mlflow_aifsm.operations.outcome import Outcome
from mlflow_aifsm.operations.quantization import (
    GRANULARITIES,
    GROUPS,
    INTEGERS,
    NARROW,
    SCHEMES,
    WEIGHT_ONLY_BITS,
    Dynamic,
    Static,
    WeightOnly,
)
from mlflow_aifsm.operations.support import REFUSED, Support
from mlflow_aifsm.verification import integer_execution
from tests.operations.quantized_models import asked, done, found, saved, small

Asked = Static | Dynamic | WeightOnly
FIELDS = {"precision": "subset", "scheme": "subset", "technique": "equal", "granularity": "subset"}
"""What is compared, and how the template compares it."""


def statics(backend: str) -> Iterator[Static]:
    words = product((*INTEGERS, *NARROW), INTEGERS, SCHEMES, SCHEMES, GRANULARITIES, GRANULARITIES)
    for weights, activations, scheme, other, granularity, of_activations in words:
        schemes = {"weights": scheme, "activations": other}
        granularities = {"weights": granularity, "activations": of_activations}
        yield Static(weights, activations, schemes, granularities, backend=backend, subset_size=32)


@cache
def everything() -> tuple[Asked, ...]:
    dynamics = (Dynamic(*words) for words in product(("int8", "uint8"), SCHEMES, ("layer", "channel")))
    only = (WeightOnly(bits, group, scheme) for bits, group, scheme in product(WEIGHT_ONLY_BITS, GROUPS, SCHEMES))
    return (*statics("onnxruntime"), *statics("nncf"), *dynamics, *only)


def of_row(row: Support) -> list[Asked]:
    return [config for config in everything() if support.support(support.cell(config)) is row]


def named(row: Support) -> str:
    return f"{row.cell.technique}-{row.cell.backend}-{row.does}-{support.table().index(row)}"


def ran(outcome: Outcome) -> tuple[int, int]:
    """Layers that ONNX Runtime runs in integers, and all layers."""
    data = integer_execution.facts(outcome.quantized.path)[0].value.data
    counts = {name: sum(part.values()) for name, part in data.items()}
    return counts["integer"], sum(counts.values())


def differing(outcome: Outcome, against: Path | None = None) -> list[str]:
    """Names of what was asked for and is not found on the file."""
    told, there = asked(outcome), found(outcome, against)
    pairs = {name: (told.get(f"asked.{name}"), there[f"quantizers.{name}"]) for name in FIELDS}
    wrong = [name for name, (want, got) in pairs.items() if want and not agrees(FIELDS[name], want.value.data, got.value.data)]
    return wrong + [finding.code for fact in there.values() for finding in fact.findings]


REFUSED_ROWS = [row for row in support.table() if row.does == REFUSED]
STATIC_ROWS = [row for row in support.table() if row.cell.technique == "static" and row.does != REFUSED]


def test_the_table_has_a_row_for_everything_that_can_be_asked() -> None:
    assert len(everything()) == 2 * 6 * 4 * 2 * 2 * 3 * 3 + 8 + 30
    rows = {named(support.support(support.cell(config))) for config in everything()}
    unused = [row for row in support.table() if named(row) not in rows]
    # no config asks NNCF for a technique without data: those rows are there for the reader
    assert {(row.cell.technique, row.cell.backend) for row in unused} == {("dynamic", "nncf"), ("weight-only", "nncf")}


@pytest.mark.parametrize("row", REFUSED_ROWS, ids=named)
def test_what_cannot_be_done_is_refused_with_the_reason_and_something_that_can(row: Support) -> None:
    assert row.why
    assert row.instead
    for config in of_row(row):
        with pytest.raises(InputError, match="cannot do this") as caught:
            support.check(config)
        assert row.why in str(caught.value)
        assert row.instead in str(caught.value)


def test_following_the_remedies_ends_at_something_that_works() -> None:
    for asked_for in everything():
        config = asked_for
        while (row := support.support(support.cell(config))).does == REFUSED:
            after = followed(config, row.instead)
            assert after != config, row
            config = after


def followed(config: Asked, instead: str) -> Asked:
    """``config`` with the first thing changed that ``instead`` names."""
    if not isinstance(config, Static) or instead.startswith("WeightOnly()"):
        return WeightOnly()
    one = {"weights": config.weights, "activations": config.activations, "subset_size": 32}
    scheme, granularity, backend = config.scheme, dict(config.granularities), config.backend
    changes = {
        "activations by layer": lambda: granularity.update(activations="layer"),
        "granularity='layer'": lambda: granularity.update(weights="layer"),
        "activations='uint8'": lambda: one.update(activations="uint8"),
    }
    if "backend='onnxruntime'" in instead:
        backend = "onnxruntime"
    for word, change in changes.items():
        if word in instead:
            change()
            break
    return Static(scheme=scheme, granularity=granularity, backend=backend, **one)


@pytest.mark.slow
@pytest.mark.parametrize("row", STATIC_ROWS, ids=named)
def test_a_static_quantization_does_what_its_row_says(row: Support) -> None:
    for config in of_row(row):
        outcome = done(config)
        integer, total = ran(outcome)
        expected = {"integer": integer == total, "float": integer == 0, "partly": 0 < integer < total}
        assert (total, expected[row.does]) == (4, True), config
        assert differing(outcome, small().path) == [], config


def test_a_dynamic_quantization_does_what_its_row_says() -> None:
    for config in [config for config in everything() if isinstance(config, Dynamic)]:
        outcome, row = done(config), support.support(support.cell(config))
        assert ran(outcome) == (4, 4), config
        assert differing(outcome, small().path) == (["granularity"] if row.does == "partly" else []), config
        if row.does == "partly":
            assert found(outcome)["quantizers.granularity"].value.data["exceptions"] == {"head.weight": "channelwise"}


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear layer of two groups of 256 whose weights lie mostly above 0, so that no zero point is the middle by chance."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(-0.2, 1, (6, 512)).astype(np.float32)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "linear", transB=1)]
    tensors = {"w": weights, "b": rng.normal(size=6).astype(np.float32)}
    return saved(tmp_path_factory.mktemp("skewed"), nodes, tensors, x_shape=["n", 512], y_shape=["n", 6])


@pytest.mark.parametrize("bits", WEIGHT_ONLY_BITS)
def test_a_weight_quantization_has_the_bits_groups_and_scheme_that_were_asked(skewed: Path, bits: int) -> None:
    for group, scheme in product(GROUPS, SCHEMES):
        outcome = done(WeightOnly(bits, group, scheme), skewed)
        assert ran(outcome) == (0, 1)
        assert differing(outcome, skewed) == [], (bits, group, scheme)
        assert f"groups of {group}" in found(outcome)["quantizers.granularity"].value.text


def test_settings_by_layer_are_refused_where_the_backend_has_none() -> None:
    config = Static(backend="nncf", overrides={"head": {"weights": "int8"}})
    with pytest.raises(InputError, match="backend='onnxruntime'"):
        support.check(config)


def test_a_model_without_a_layer_of_its_kind_is_no_reason_to_start(tmp_path: Path) -> None:
    nodes = [helper.make_node("Exp", ["x"], ["y"], "exp")]
    path = saved(tmp_path, nodes, {}, x_shape=["n", 4], y_shape=["n", 4])
    with pytest.raises(InputError, match="nothing to quantize; got Exp"):
        done(Static(), path, np.ones((4, 4), np.float32))


@pytest.mark.parametrize("config", [Static(subset_size=8), Dynamic(), WeightOnly()], ids=lambda one: type(one).__name__)
def test_what_is_quantized_already_is_refused(config: Asked) -> None:
    again = done(config).quantized.path
    assert len(onnx.load(again).graph.node) > 4
    for other in (Static(), Static(backend="nncf"), Dynamic(), WeightOnly()):
        with pytest.raises(InputError, match="quantized already"):
            done(other, again)


@pytest.mark.parametrize(
    "config",
    [
        Static(keep_float="*"),
        Static(keep_float="*", bias_correction="auto"),
        Static(keep_float="*", backend="nncf", subset_size=8),
        Dynamic(keep_float=("Conv", "head")),
        WeightOnly(keep_float="head"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_file_without_a_single_quantizer_is_not_delivered(config: Asked) -> None:
    with pytest.raises(AifsmError, match=r"nothing( to quantize)?; got \d+ nodes kept in float"):
        done(config)


@pytest.mark.parametrize("bits", WEIGHT_ONLY_BITS)
def test_zero_points_of_rows_with_a_single_group_are_read_without_their_padding(bits: int) -> None:
    outcome = done(WeightOnly(bits, 256, "asymmetric"))
    codes = found(outcome, small().path)["quantizers.weight_codes"]
    assert codes.findings == ()
    assert codes.value.text.startswith("1 of 1 weight")
    (row,) = (row for row in quantizers.read(outcome.quantized.path) if row.kind == WEIGHT)
    assert max(row.zero_point) < 1 << bits
