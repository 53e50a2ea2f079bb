"""What a log costs, as ratios measured side by side: ``python tests/benchmarks/overhead.py``.

Absolute times say little on a shared machine; both sides of a ratio run in turn, in one process, and the medians are compared.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="1", NNCF_CI="1", MLFLOW_AIFSM_QUIET="1")
os.environ["MLFLOW_AIFSM_RESPONSIBLE"] = "A. Ito"

import logging
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial

import mlflow
import requests
import torch
from torch import nn

import mlflow_aifsm as aifsm
from tests.server import serving

TURNS = 5


def convolutional(blocks: int, width: int) -> nn.Module:
    """A network of convolution, batch normalization and ReLU for images ``[n, 3, 32, 32]``."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1)]
    for _ in range(blocks):
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(width, 10)).eval()


EXAMPLE = torch.zeros(2, 3, 32, 32)


def with_log(model: nn.Module, name: str) -> None:
    """Frozen, measured, logged with tables and report, registered; not verified on data."""
    with mlflow.start_run():
        aifsm.freeze(model, EXAMPLE, verified_model="net_1", registered_model_name=name)


def without_log(model: nn.Module, name: str) -> None:
    """What one writes without this package."""
    with mlflow.start_run():
        program = torch.onnx.export(model, (EXAMPLE,), dynamo=True, verbose=False)
        mlflow.onnx.log_model(program.model_proto, name=name, registered_model_name=name)


def process(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    with silent():
        work()
    return time.perf_counter() - began


@contextmanager
def silent() -> Iterator[None]:
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def ratio(what: str, mine: Callable[[], None], theirs: Callable[[], None], target: float) -> None:
    """Prints the ratio of medians; a first turn of each warms caches and is not counted."""
    turns = [(seconds(mine), seconds(theirs)) for _ in range(TURNS + 1)][1:]
    ours, others = (statistics.median(side) for side in zip(*turns, strict=True))
    shares = sorted(mine / theirs for mine, theirs in turns)
    print(f"{what:58} {ours / others:6.2f} {target:7.2f}   {ours:7.2f} s {others:7.2f} s   {shares[0]:.2f}–{shares[-1]:.2f}")


@contextmanager
def counted() -> Iterator[list[str]]:
    """The paths of the requests that go out in the block."""
    seen: list[str] = []
    send = requests.Session.send

    def counting(session: requests.Session, request: requests.PreparedRequest, **how: object) -> requests.Response:
        seen.append(request.path_url)
        return send(session, request, **how)

    requests.Session.send = counting  # type: ignore[method-assign, assignment]
    try:
        yield seen
    finally:
        requests.Session.send = send  # type: ignore[method-assign]


def requests_of(model: nn.Module, name: str) -> tuple[int, int]:
    """Requests of one log to the tracking store, and uploads of its files."""
    with silent(), mlflow.start_run(), counted() as seen:
        aifsm.freeze(model, EXAMPLE, verified_model="net_1", registered_model_name=name)
    uploads = [path for path in seen if "/mlflow-artifacts/" in path]
    return len(seen) - len(uploads), len(uploads)


def main() -> None:
    """All figures, about a minute and a half."""
    for name in ("mlflow", "alembic", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="aifsm-benchmark-"))
    os.chdir(folder)
    small, large = convolutional(2, 16), convolutional(24, 64)
    load = os.getloadavg()[0]
    print(f"load average at the start {load:.1f} on {os.cpu_count()} processors\n")
    print(f"{'median of ' + str(TURNS):58} {'ratio':>6} {'at most':>7}   {'ours':>9} {'other':>9}   range")
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    for size, model in (("small", small), ("larger", large)):
        what = f"freeze with log / export and mlflow.onnx.log_model, {size}"
        ratio(what, partial(with_log, model, f"ours-{size}"), partial(without_log, model, f"other-{size}"), 0.8)
    script = str(Path(sys.executable).with_name("mlflow-aifsm"))
    imported = partial(process, sys.executable, "-c", "import mlflow")
    ratio("mlflow-aifsm --help / import mlflow", partial(process, script, "--help"), imported, 0.1)
    (folder / "server").mkdir()
    with serving(folder / "server") as server:
        mlflow.set_tracking_uri(server.uri)
        mlflow.set_experiment("requests")
        print(f"\n{'one log on a server':58} {'requests':>8} {'uploads':>8}")
        for what, model in (
            ("small, first version", small),
            ("small, second version", small),
            ("larger, third version", large),
        ):
            print("{:58} {:8} {:8}".format(what, *requests_of(model, "requests")))


if __name__ == "__main__":
    main()
