"""What a pruning config refuses: one line with what was given and what is expected."""

from __future__ import annotations

from typing import Any

import pytest

from mlflow_aifsm.errors import InputError
from mlflow_aifsm.operations.pruning import Magnitude


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": 2.5}, r"steps; got 2\.5; expected a number of steps, or ascending amounts"),
        ({"steps": None}, "steps; got None; expected a number of steps"),
        ({"layers": 3}, "layers; got 3; expected names"),
        ({"keep_dense": [3]}, r"keep_dense; got \[3\]; expected names"),
        ({"layers": None}, "layers; got None; expected names"),
        ({"pattern": 3}, "pruning pattern; got 3; expected element, vector"),
        ({"pattern": ["element"]}, r"pruning pattern; got \['element'\]; expected element"),
    ],
)
def test_a_setting_of_another_type_is_refused_in_one_line(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Magnitude(**given)
