"""The samples as fixtures, and the one thing of the system that these tests need."""

from __future__ import annotations

import os
import shutil

import pytest

from mlflow_aifsm.record import Evidence
from tests.report import samples

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SAMPLES = (samples.conversion, samples.optimization, samples.conversion_with_gaps, samples.optimization_with_findings)


@pytest.fixture(params=SAMPLES, ids=lambda sample: sample.__name__)
def evidence(request: pytest.FixtureRequest) -> Evidence:
    """Each sample in turn."""
    made: Evidence = request.param()
    return made


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the system's Chromium; without it the test skips, or fails where the system's packages are required."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is not None:
        return found
    missing = "the system package 'chromium' is missing: apt-get install chromium"
    if os.environ.get("AIFSM_TEST_REQUIRE_SYSTEM") == "1":
        pytest.fail(missing)
    pytest.skip(missing)
