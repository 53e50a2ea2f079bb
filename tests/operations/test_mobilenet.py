"""A real network with real weights, frozen both ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

import mlflow_aifsm as aifsm
from mlflow_aifsm.facts import State
from tests.mobilenet import MobileNetV2, pretrained

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("experiment")]


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> MobileNetV2:
    return pretrained(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """24 crops ``[24, 3, 224, 224]`` of two photographs, normalised as ImageNet is."""
    rng = np.random.default_rng(2)
    images = [image.astype("float32") / 255 for image in load_sample_images().images]
    corners = [(images[n % 2], rng.integers(0, 427 - 224), rng.integers(0, 640 - 224)) for n in range(24)]
    cut = np.stack([image[top : top + 224, left : left + 224] for image, top, left in corners])
    return ((cut - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(0, 3, 1, 2).astype("float32")


@pytest.mark.parametrize("config", [aifsm.Onnx(dynamic_shapes="batch"), aifsm.Pt2(dynamic_shapes="batch")], ids=["onnx", "pt2"])
def test_mobilenet_v2_is_frozen_and_its_rows_are_right(
    mobilenet: MobileNetV2, crops: np.ndarray, config: aifsm.Onnx | aifsm.Pt2
) -> None:
    judged = aifsm.Verification(aifsm.Data(crops, name="24 crops"), epsilon=1e-3, reason="a hundredth of the smallest margin")
    frozen = aifsm.freeze(mobilenet, torch.from_numpy(crops[:2]), config, verified_model="mobilenet_2", verification=judged)
    entries = frozen.record.entries
    assert frozen.verification is not None
    assert frozen.verification.passed, frozen.verification
    assert frozen.verification.numbers["flips"] == 0
    assert entries["aifsm.model.parameters"].value.data == 3_504_872
    rows = {key.rpartition(".")[2]: entry for key, entry in entries.items() if key.startswith("aifsm.elimination.")}
    assert {entry.state for entry in rows.values()} == {State.MEASURED}
    folded = isinstance(config, aifsm.Onnx)
    assert rows["batch_normalization"].value.brief == ("folded" if folded else "frozen")
    assert max(map(len, rows["batch_normalization"].value.data.values())) == 52
    assert rows["dropout"].value.brief == ("eliminated" if folded else "inert")
    assert frozen.record.gaps == ()
    assert frozen.findings == ()
