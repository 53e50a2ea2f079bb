"""What a verb gives back, shown in a notebook: a link where MLflow has a server, and none where it has not."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from mlflow_aifsm.result import Result
from tests.report import samples


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ("http://ada:s3cret@mlflow.invalid:5000/", f'href="http://mlflow.invalid:5000/#/runs/{samples.RUN}"'),
        ("https://mlflow.invalid", f'href="https://mlflow.invalid/#/runs/{samples.RUN}"'),
        ("sqlite:///mlflow.db", ""),
    ],
)
def test_a_result_links_to_the_page_of_its_run(server: str, address: str, experiment: str) -> None:
    mlflow.set_tracking_uri(server)
    record = samples.conversion().record
    html = Result(Path("digits.onnx"), samples.RUN, record.log_id, "models:/m-1", "", record)._repr_html_()
    assert address in html
    assert ("<a " in html) == bool(address)
    assert "s3cret" not in html
