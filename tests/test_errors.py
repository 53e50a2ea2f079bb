"""An error is one line that says what, got, expected and what to do."""

from __future__ import annotations

import inspect

import pytest

from mlflow_aifsm import errors
from mlflow_aifsm.errors import AifsmError

LEAVES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AifsmError)]


def test_the_line_says_what_got_expected_and_remedy_in_this_order() -> None:
    error = AifsmError("opset of model.onnx.", got=9, expected="at least 13", remedy="export it again.")
    assert str(error) == "opset of model.onnx; got 9; expected at least 13; export it again."
    assert (error.what, error.got, error.expected, error.remedy) == (
        "opset of model.onnx.",
        9,
        "at least 13",
        "export it again.",
    )


def test_falsy_values_that_were_got_are_said() -> None:
    assert str(AifsmError("size", got=0, expected=False)) == "size; got 0; expected False."
    assert str(AifsmError("value", got=None)) == "value; got None."
    assert str(AifsmError("nothing more")) == "nothing more."


def test_a_message_is_one_line_whatever_is_put_in() -> None:
    assert "\n" not in str(AifsmError("a\nb", got="c\r\n\td", remedy="e\x0bf"))


@pytest.mark.parametrize("kind", LEAVES)
def test_every_error_has_one_root_and_an_exit_code_of_the_command_line(kind: type[AifsmError]) -> None:
    expected = {"InputError": 2, "ConfigError": 2, "IntegrityError": 5}.get(kind.__name__, 1)
    assert kind("x").exit_code == expected
    assert issubclass(kind, AifsmError)
    assert inspect.getdoc(kind)
