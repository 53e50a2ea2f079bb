"""A Keras model, converted to ONNX by tf2onnx in an environment of its own, with its Model Conversion Log.

TensorFlow does not go into the environment of mlflow-aifsm: the example makes one beside it, ``.venv-tf`` or the folder that
``--environment`` names, and installs pinned versions there; that downloads about 300 MB the first time. Training and conversion
run there as ``external_converter_keras.py``; here the conversion is recorded around its call, and the ONNX file is measured and
compared with what Keras said. Run it with ``python examples/external_converter.py --by 'YOUR NAME'``.
"""

from __future__ import annotations

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")

import argparse
import subprocess
import venv
from collections.abc import Callable, Mapping
from pathlib import Path

import mlflow
import numpy as np
from sklearn.datasets import load_digits

import mlflow_aifsm as aifsm

PINNED = ("tensorflow-cpu==2.21.0", "keras==3.15.1", "tf2onnx==1.17.0", "onnx==1.23.2", "numpy==2.4.6")
"""Versions that were tried together."""
SCRIPT = Path(__file__).with_name("external_converter_keras.py")
TRAINED, OPSET, EPOCHS = 1200, 18, 15
INPUT, OUTPUT = "image", "scores"


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits ``[n, 8, 8, 1]``, float32 in [0, 1], as TensorFlow lays them out, and their labels."""
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32).reshape(-1, 8, 8, 1), labels


def environment(folder: Path) -> Path:
    """The interpreter of TensorFlow's environment, which is made where it is not there yet."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "installed.txt"
    if not done.is_file() or done.read_text("utf-8").split() != list(PINNED):
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINNED], check=True)
        done.write_text("\n".join(PINNED), "utf-8")
    return python.absolute()


def train(python: Path, folder: Path) -> None:
    """Trains the Keras model there, and keeps what it says to the held-out images."""
    images, labels = digits()
    np.savez(folder / "digits.npz", images=images[:TRAINED], labels=labels[:TRAINED], held_out=images[TRAINED:])
    command = [python, SCRIPT, "train", folder, "--data", folder / "digits.npz", "--epochs", str(EPOCHS)]
    subprocess.run(command, check=True, env=quiet())


def held_out() -> aifsm.Verification:
    """The held-out images with their labels."""
    images, labels = digits()
    return aifsm.Verification(aifsm.Data({INPUT: images[TRAINED:]}, name="digits, held out"), labels[TRAINED:])


def reference(folder: Path) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """Keras as a function: what it said to each held-out image, looked up by the image."""
    images, scores = digits()[0][TRAINED:], np.load(folder / "keras-outputs.npz")[OUTPUT]
    known = {image.tobytes(): row for image, row in zip(images, scores, strict=True)}
    return lambda batch: {OUTPUT: np.stack([known[image.tobytes()] for image in batch[INPUT]])}


def converted(python: Path, folder: Path, by: str) -> aifsm.Result:
    """Converts in TensorFlow's environment, and records it: what went in, what ran, how it ended, what came out."""
    command = [str(python), str(SCRIPT), "convert", str(folder), "--opset", str(OPSET)]
    with aifsm.record_conversion(verified_model="digits-keras_1", converter="tf2onnx", responsible=by) as log:
        log.read(folder / "model.keras")
        done = subprocess.run(command, check=False, env=quiet())
        log.script(command, config={"opset": OPSET}, exit_code=done.returncode)
        log.packages(python)
        done.check_returncode()
        log.output(folder / "model.onnx")
        log.verify(reference(folder), held_out())
        log.trained(training())
        for field, value in told_by_people(folder).items():
            log.declare(field, value, by)
    return log.finished


def training() -> aifsm.Training:
    """What training did that must be gone from the file."""
    layers = ("dropout, rate 0.25", "batch normalization behind both convolutions")
    return aifsm.Training.of(scheduler=False, gradient_clipping=False, weight_regularization=False, other=layers)


def told_by_people(folder: Path) -> dict[str, str]:
    """What no file tells and nothing here has seen: the training, as the one who trained knows it."""
    labels, scores = digits()[1][TRAINED:], np.load(folder / "keras-outputs.npz")[OUTPUT]
    accuracy = float((scores.argmax(axis=1) == labels).mean())
    return {
        "model.training_framework": f"TensorFlow {PINNED[0].partition('==')[2]}, {PINNED[1].replace('keras==', 'Keras ')}",
        "model.training_run": f"{EPOCHS} epochs, Adam, learning rate 0.002, batches of 64, seed 0",
        "model.data_sets": f"scikit-learn digits, the first {TRAINED} images",
        "model.baseline_metrics": f"accuracy {accuracy:.4f} of the Keras model on {len(labels)} held-out images",
    }


def quiet() -> dict[str, str]:
    """Variables for TensorFlow's interpreter: it sees no packages of this one, and says errors alone."""
    known = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**known, "TF_CPP_MIN_LOG_LEVEL": "3"}


def main() -> None:
    """Trains and converts there, records here, and says where everything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", type=Path, default=Path(".venv-tf"), help="folder of TensorFlow's environment")
    parser.add_argument("--by", required=True, help="the person who converts and declares")
    options = parser.parse_args()
    folder = Path("keras-digits").absolute()
    folder.mkdir(exist_ok=True)
    python = environment(options.environment)
    train(python, folder)
    with mlflow.start_run() as run:
        frozen = converted(python, folder, options.by)
    reports = aifsm.render_report(run.info.run_id, output="aifsm-reports/")
    print(f"accuracy {frozen.verification.numbers['accuracy_after']:.4f}, log {frozen.record.status}")
    print(f"run      {run.info.run_id}")
    print(f"written  {', '.join(map(str, reports))}")


if __name__ == "__main__":
    main()
