"""The samples as fixtures, and the one thing of the system that these tests need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

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


def of_the_system(package: str, commands: Sequence[str]) -> str:
    """Path of the first command there is; without one the test skips, or fails where the system's packages are required."""
    found = next(filter(None, map(shutil.which, commands)), None)
    if found is not None:
        return found
    missing = f"the system package '{package}' is missing: apt-get install {package}"
    if os.environ.get("AIFSM_TEST_REQUIRE_SYSTEM") == "1":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="session")
def libreoffice() -> str:
    """Path of LibreOffice."""
    return of_the_system("libreoffice-writer-nogui", ("soffice",))


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the system's Chromium."""
    return of_the_system("chromium", CHROMIUM)
