"""Who holds a criterion: the committed script that passes it, and no script that has the word in it."""

from __future__ import annotations

import pytest

from mlflow_aifsm.capture.source_code import Kind, SourceCode
from mlflow_aifsm.verification.criterion import Verification
from mlflow_aifsm.verifying import holder

ASKED = Verification(None, limits={"accuracy_drop": 0.02})
CALL = "criterion supplied with the call"


def held(content: str, name: str = "convert.py", *, dirty: bool = False, differs: bool = False) -> str:
    return holder(ASKED, SourceCode(Kind.SCRIPT, name, content.encode(), commit="abc", dirty=dirty, differs=differs))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("Verification(data, limits={'accuracy': 0.02})", "convert.py"),
        ("Verification(\n    data,\n    limits = bounds,\n)", "convert.py"),
        ('{"cells": [{"source": ["Verification(data, limits={})"], "outputs": null}]}', "convert.ipynb"),
    ],
)
def test_a_committed_script_that_passes_the_criterion_holds_it(content: str, name: str) -> None:
    assert held(content, name) == f"{name}, commit abc"
    assert held(content, name, dirty=True) == CALL
    assert held(content, name, differs=True) == CALL


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("# speed limits=80\nmain()", "convert.py"),
        ("limits = read()\nmain(limits)", "convert.py"),
        ("'limits=1'", "convert.py"),
        ("Verification(data, epsilon=0.1)", "convert.py"),
        ('{"cells": ["within limits", "limits == 3"]}', "convert.ipynb"),
    ],
)
def test_a_script_in_which_the_word_stands_otherwise_holds_none(content: str, name: str) -> None:
    assert held(content, name) == CALL
