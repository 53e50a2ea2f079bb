"""A command as it may be recorded: what only its machine or its user should know is left out."""

from __future__ import annotations

import pytest

from mlflow_aifsm.capture.command import line, settings


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["tool", "--model=/home/ada/net.onnx", "/home/ada/bin/x"], "tool --model=net.onnx x"),
        (["curl", "https://ada:pw@example.org/a?token=abc"], "curl https://example.org/a"),
        (["tool", "--uri=https://ada:pw@example.org/a?key=1"], "tool --uri=https://example.org/a"),
        (["tool", "--store", "sqlite:////home/ada/mlflow.db"], "tool --store sqlite:///mlflow.db"),
        (["tool", "--api-key", "abc", "--opset", "17"], "tool --api-key '***' --opset 17"),
        (["tool", "--token=abc", "PASSWORD=abc"], "tool '--token=***' 'PASSWORD=***'"),
        (["env", "AWS_SECRET_ACCESS_KEY=abc"], "env 'AWS_SECRET_ACCESS_KEY=***'"),
        (["tool", "--no-token", "--opset", "17", "tokenizer=bpe"], "tool --no-token --opset 17 tokenizer=bpe"),
    ],
)
def test_a_command_holds_no_place_and_no_secret(words: list[str], shown: str) -> None:
    assert line(words) == shown


def test_settings_hold_no_secret_at_any_depth() -> None:
    given = {
        "opset": 17,
        "password": "abc",
        "hub": {"url": "https://ada:pw@example.org/a", "api_key": "abc", "token": None},
        "names": ["a"],
    }
    hidden = {
        "opset": 17,
        "password": "***",
        "hub": {"url": "https://example.org/a", "api_key": "***", "token": None},
        "names": ["a"],
    }
    assert settings(given) == hidden
