"""A config survives a file, whatever its kind; what does not fit is one line with the place and the nearest known word."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import nncf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters

from mlflow_aifsm.backends.nncf import KINDS as NATIVE
from mlflow_aifsm.backends.nncf import native
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.operations import config_files
from mlflow_aifsm.operations.config_files import KINDS, VERBS, content, made, read, read_for, written
from mlflow_aifsm.operations.configs import Onnx, Pt2
from mlflow_aifsm.operations.pruning import Gradient, Magnitude
from mlflow_aifsm.operations.quantization import NNCF, ORT, Dynamic, Static, WeightOnly

NAME = st.text("abcxyz.*?/ äß\"'\\\n", min_size=1, max_size=8)
NAMES = st.lists(NAME, max_size=3).map(tuple)
SCHEME = st.sampled_from(["symmetric", "asymmetric"])
SHARE = st.floats(0.01, 0.99)
PLAIN = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | NAME,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAME, inner, max_size=2),
    max_leaves=4,
)
PLAIN_OR_NOT = st.none() | PLAIN
SHAPES = st.none() | st.just("batch") | st.dictionaries(st.just("image"), st.dictionaries(st.integers(0, 3), NAME, min_size=1))
OVERRIDES = st.dictionaries(
    NAME, st.fixed_dictionaries({}, optional={"activations": st.just("uint16"), "ranges": st.just("mse")}), max_size=2
)
WHICH = {"layers": NAMES, "keep_dense": NAMES, "scope": st.sampled_from(["global", "local"])}
AMOUNTS = st.lists(SHARE, min_size=1, max_size=3, unique=True).map(lambda found: {"steps": tuple(sorted(found))})
HOW_MUCH = st.one_of(
    st.fixed_dictionaries({"amount": st.none() | SHARE, "steps": st.integers(1, 4)}), AMOUNTS, st.just({"pattern": "2:4"})
)
SETTINGS: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    Onnx: {
        "opset": st.none() | st.integers(1, 24),
        "dynamic_shapes": SHAPES,
        "strip_source_paths": st.booleans(),
        "exporter": st.sampled_from(["dynamo", "torchscript"]),
    },
    Pt2: {"dynamic_shapes": SHAPES, "strip_source_paths": st.booleans()},
    Static: {
        "weights": st.sampled_from(["int8", "uint8", "int4"]),
        "activations": st.sampled_from(["uint8", "int16"]),
        "scheme": SCHEME | st.fixed_dictionaries({"weights": SCHEME, "activations": SCHEME}),
        "granularity": st.sampled_from(["layer", "channel"]) | st.just({"weights": "group"}),
        "ranges": st.sampled_from(["entropy", "mse", "percentile"]),
        "percentile": st.floats(50.5, 100),
        "subset_size": st.integers(1, 999),
        "overrides": OVERRIDES,
        "keep_float": NAMES,
        "accuracy_target": st.none() | SHARE,
        "bias_correction": st.sampled_from([None, True, False, "auto"]),
        "backend": st.sampled_from(["auto", "nncf", "onnxruntime"]),
        "runs_on": st.sampled_from(["onnxruntime", "openvino"]),
    },
    Dynamic: {
        "weights": st.sampled_from(["uint8", "int8"]),
        "scheme": SCHEME,
        "granularity": st.sampled_from(["layer", "channel"]),
        "keep_float": NAMES,
    },
    WeightOnly: {
        "bits": st.sampled_from([2, 4, 8]),
        "group_size": st.sampled_from([16, 256]),
        "scheme": SCHEME,
        "keep_float": NAMES,
    },
    NNCF: {
        **dict.fromkeys(NATIVE, PLAIN_OR_NOT),
        "subset_size": st.integers(1, 999),
        "fast_bias_correction": st.booleans(),
    },
    # TOML has no null, and leaving a setting out means its default
    ORT: {
        one.name: st.booleans() if isinstance(one.default, bool) else PLAIN if one.default else PLAIN_OR_NOT
        for one in fields(ORT)
    },
    Magnitude: WHICH | {"batch_norm_adaptation": st.integers(0, 99)},
    Gradient: WHICH | {"batch_norm_adaptation": st.integers(0, 99), "score": st.sampled_from(["gradient", "weight_gradient"])},
}
FREE = {"amount", "steps", "pattern"}
"""Settings of a pruning that depend on each other; ``HOW_MUCH`` draws them."""


@st.composite
def configs(draw: st.DrawFn, kind: type) -> Any:
    names = SETTINGS[kind]
    chosen = draw(st.fixed_dictionaries({}, optional=names))
    return kind(**chosen, **(draw(HOW_MUCH) if kind in VERBS["prune"] else {}))


def toml(value: Any) -> str:
    """A value as TOML; JSON's texts and numbers are TOML's."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(part)}" for key, part in value.items() if part is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def as_toml(config: Any) -> str:
    return "".join(f"{name} = {toml(value)}\n" for name, value in content(config).items() if value is not None)


def test_every_setting_of_every_kind_is_tried() -> None:
    for kind in KINDS.values():
        tried = SETTINGS[kind].keys() | (FREE if kind in VERBS["prune"] else set())
        assert tried == {one.name for one in fields(kind)}, kind


@pytest.mark.parametrize("kind", KINDS.values())
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_config_of_each_kind_survives_json_and_toml(
    kind: type, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config, folder = data.draw(configs(kind)), tmp_path_factory.getbasetemp()
    assert read(written(config, folder / "config.json")) == config
    (folder / "config.toml").write_text(as_toml(config), "utf-8")
    assert read(folder / "config.toml") == config


def test_objects_of_nncf_are_written_as_what_nncf_takes_for_them(tmp_path: Path) -> None:
    asked = {
        "preset": nncf.QuantizationPreset.MIXED,
        "target_device": nncf.TargetDevice.CPU,
        "model_type": nncf.ModelType.TRANSFORMER,
        "ignored_scope": nncf.IgnoredScope(names=["conv"], patterns=["head.*"]),
        "advanced_parameters": AdvancedQuantizationParameters(disable_bias_correction=True, smooth_quant_alpha=0.7),
    }
    again = read(written(NNCF(**asked), tmp_path / "nncf.json"))
    for name, value in asked.items():
        assert not isinstance(getattr(again, name), type(value)) or isinstance(value, str), name
        assert native(NATIVE[name], getattr(again, name), name) == value, name


def config_file(folder: Path, text: str, name: str = "int8.toml") -> Path:
    (folder / name).write_text(text, "utf-8")
    return folder / name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('kind = "Static"\nweigths = "int8"', "'weigths' of Static in int8.toml; the nearest known one is 'weights'."),
        ('kind = "Pt2"\nopset = 3', "unknown setting 'opset' of Pt2 in int8.toml; the nearest known one is '"),
        ('kind = "static"', "unknown kind 'static' in int8.toml; expected Onnx, Pt2, Static"),
        ('kind = "nncf"', "the nearest known one is 'NNCF'."),
        ("kind = 3", "unknown kind 3 in int8.toml"),
        ('ranges = "mse"', "config int8.toml has no kind; expected one of Onnx, Pt2, Static"),
        ('kind = "Static"\nsubset_size = "300"', "'subset_size' of Static in int8.toml; got '300'; expected an integer."),
        ('kind = "Static"\nsubset_size = true', "got True; expected an integer."),
        ('kind = "Static"\nkeep_float = [1]', "got [1]; expected a list, each a text."),
        ('kind = "Static"\nscheme = ["symmetric"]', "expected a text or a table, each value a text."),
        ('kind = "Static"\noverrides = {head = "mse"}', "expected a table, each value a table"),
        ('kind = "Static"\nbias_correction = 1', "expected true or false or 'auto'."),
        ('kind = "Static"\npercentile = "99"', "expected a number."),
        ('kind = "ORT"\nextra_options = {since = 2026-01-01}', "expected texts, numbers, lists or tables."),
        ('kind = "Static"\nranges = "entropi"', "Static in int8.toml: ranges; got 'entropi'; expected 'max_abs',"),
        ('kind = "Static"\nranges = "entropi"', "did you mean 'entropy'?"),
        ('kind = "Magnitude"\npattern = "2:2"', "Magnitude in int8.toml: "),
        ('kind = "Magnitude"\nfine_tune = "train"', "is a function, which no file can hold; call mlflow_aifsm.prune("),
        ('kind = "Static"\nkind = "ORT"', "config int8.toml is not TOML: "),
        ("kind = ", "config int8.toml is not TOML: "),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line_that_names_the_place(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(config_file(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "config int8.json; got a list; expected a table of settings."),
        ("{", "config int8.json is not JSON: "),
        ('{"kind": "Static", "ranges": "mse", "ranges": "entropy"}', "'ranges' stands there twice"),
        ("\ud800", "is not JSON"),
    ],
)
def test_a_json_that_is_none_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "int8.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match=said.replace("[", r"\[")):
        read(tmp_path / "int8.json")


def test_a_file_that_is_not_there_or_of_another_suffix_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.toml cannot be read: No such file"):
        read(tmp_path / "no.toml")
    with pytest.raises(InputError, match=r"config int8\.yaml; got suffix '\.yaml'; expected \.toml or \.json"):
        read(tmp_path / "int8.yaml")
    with pytest.raises(InputError, match=r"TOML is read, not written"):
        written(Static(), tmp_path / "int8.toml")
    with pytest.raises(InputError, match=r"cannot be written: No such file"):
        written(Static(), tmp_path / "no" / "int8.json")


def test_a_function_has_no_written_form() -> None:
    with pytest.raises(
        InputError, match=r"setting ORT\.extra_options\.hook has no written form; got builtin_function_or_method"
    ):
        content(ORT(extra_options={"hook": print}))


@pytest.mark.parametrize(("kind", "verb"), [(kind, verb) for kind in KINDS for verb in VERBS])
def test_a_verb_takes_its_own_kinds_and_names_the_verb_of_another(kind: str, verb: str, tmp_path: Path) -> None:
    file = config_file(tmp_path, f'kind = "{kind}"')
    own = next(name for name, kinds in VERBS.items() if KINDS[kind] in kinds)
    if own == verb and kind != "Gradient":
        assert read_for(verb, file) == KINDS[kind]()
        return
    said = f"pass it to {own}" if own != verb else "kind Gradient needs a loss function, which no file can hold"
    with pytest.raises(InputError, match=said):
        read_for(verb, file)


def test_axes_of_dynamic_shapes_are_numbers_again(tmp_path: Path) -> None:
    file = config_file(tmp_path, 'kind = "Onnx"\nexporter = "torchscript"\n[dynamic_shapes.image]\n0 = "n"')
    assert read(file) == Onnx(exporter="torchscript", dynamic_shapes={"image": {0: "n"}})
    assert read(written(read(file), tmp_path / "onnx.json")) == read(file)


def test_what_a_record_holds_of_a_config_makes_it_again() -> None:
    from mlflow_aifsm.operations.quantize_step import replay

    for kind in KINDS.values():
        held = replay(kind())
        assert made(held["kind"], held["settings"], "record.json") == kind()
    assert config_files.Config.__args__ == tuple(KINDS.values())
