"""The command line as its users meet it: the console script's own entry point, with exit code and both streams."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest import mock

from mlflow_aifsm.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """Exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def command(*arguments: str) -> Outcome:
    """Runs ``mlflow-aifsm`` in this process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    code = 0
    given = mock.patch.object(sys, "argv", ["mlflow-aifsm", *arguments])
    with given, mock.patch.dict("os.environ"), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as error:
            code = int(error.code or 0)
    return Outcome(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))
