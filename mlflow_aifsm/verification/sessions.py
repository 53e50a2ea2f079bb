"""The session that runs a frozen file: its runtime follows from the kind of file."""

from __future__ import annotations

from pathlib import Path

from mlflow_aifsm.capture.file_kind import FileKind, kind_of
from mlflow_aifsm.verification.session import OnnxSession, Session


def session_of(path: Path) -> Session:
    """The file at ``path`` ready to run, loaded from disk; nothing is unpickled.

    Raises:
        InputError: If it is no frozen file, or is damaged.
    """
    kind = kind_of(path)
    if kind is FileKind.ONNX:
        return OnnxSession(path)
    # PyTorch takes seconds to import, and an ONNX file does not need it
    from mlflow_aifsm.verification.torch_session import Pt2Session, TorchScriptSession

    return Pt2Session(path) if kind is FileKind.PT2 else TorchScriptSession(path)
