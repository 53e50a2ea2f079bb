"""Opens an ONNX file so that it also gives tensors of its inside; the file itself stays as it is, and so do its weights.

The graph alone is read and changed, in memory. Weights beside the file are read by the runtime from where they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import onnx
import onnxruntime

from mlflow_aifsm.capture import onnx_graph
from mlflow_aifsm.errors import InputError
from mlflow_aifsm.verification.session import PROVIDER, OnnxSession, session_options

DATA_FOLDER = "session.model_external_initializers_file_folder_path"
"""Entry of ONNX Runtime's session configuration: where external data of a graph lie that comes from memory."""


def augmented_session(
    path: Path, tensors: Sequence[str], optimize: bool = False, threads: int | None = None
) -> onnxruntime.InferenceSession:
    """A session of the file at ``path`` on the CPU provider, with ``tensors`` as further outputs behind its own.

    Args:
        path: The ``.onnx`` file; external data are found beside it.
        tensors: Names of tensors of the main graph, inputs of the graph among them if wanted.
        optimize: Whether the runtime may rewrite the graph; it keeps what is an output.
        threads: Threads inside an operator; the runtime's own choice if None.

    Raises:
        InputError: If the file cannot be read, or has no such tensor.
    """
    model = onnx_graph.read(path)
    _add_outputs(path, model.graph, tensors)
    options = session_options(optimize, threads)
    options.add_session_config_entry(DATA_FOLDER, str(path.resolve().parent))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[PROVIDER])


class AugmentedSession(OnnxSession):
    """An ONNX file that gives ``tensors`` of its inside instead of its outputs.

    Args:
        path: The ``.onnx`` file.
        tensors: Names of tensors of the main graph, inputs of the graph among them if wanted.
        optimize: Whether the runtime may rewrite the graph between them, as it does when deployed.

    Raises:
        InputError: If the file cannot be read, or has no such tensor.
    """

    def __init__(self, path: Path, tensors: Sequence[str], optimize: bool = False) -> None:
        self._adopt(augmented_session(path, tensors, optimize), optimize)
        types = dict(zip(self.outputs, self.output_types, strict=True))
        self.outputs = tuple(dict.fromkeys(tensors))
        self.output_types = tuple(types[name] for name in self.outputs)


def _add_outputs(path: Path, graph: onnx.GraphProto, tensors: Sequence[str]) -> None:
    known = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    given = {value.name for value in graph.output}
    for name in dict.fromkeys(tensors):
        if name not in known:
            close = get_close_matches(name, known, 1)
            expected = "the output of a node, or an input of the graph"
            raise InputError(
                f"{path.name} has no tensor '{name}'", expected=expected, remedy=f"did you mean '{close[0]}'?" if close else ""
            )
        if name not in given:
            graph.output.append(onnx.ValueInfoProto(name=name))
