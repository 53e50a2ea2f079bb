"""What runs in TensorFlow's own environment: a small Keras model of digits is trained, or converted by tf2onnx.

``external_converter.py`` calls it there. It knows nothing of mlflow-aifsm, and its environment needs neither that nor MLflow.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf2onnx

SEED, SIDE, CLASSES = 0, 8, 10
INPUT, OUTPUT = "image", "scores"


def net() -> tf.keras.Model:
    """A small CNN with the layers that a conversion must deal with: batch normalization and dropout."""
    layers = tf.keras.layers
    image = layers.Input((SIDE, SIDE, 1), name=INPUT)
    seen = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(image)))
    seen = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(32, 3, strides=2, padding="same")(seen)))
    return tf.keras.Model(image, layers.Dense(CLASSES, name=OUTPUT)(layers.Dropout(0.25)(layers.Flatten()(seen))))


def train(data: Path, folder: Path, epochs: int) -> None:
    """Trains on the images of ``data`` (npz), writes ``model.keras``, and what it says to the held-out images."""
    tf.keras.utils.set_random_seed(SEED)
    found, model = np.load(data), net()
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.Adam(0.002), loss)
    model.fit(found["images"], found["labels"], batch_size=64, epochs=epochs, verbose=0)
    model.save(folder / "model.keras")
    np.savez(folder / "keras-outputs.npz", **{OUTPUT: model(found["held_out"], training=False).numpy()})


def convert(folder: Path, opset: int) -> None:
    """Converts ``model.keras`` to ``model.onnx``, its batch axis free."""
    model = tf.keras.models.load_model(folder / "model.keras")
    signature = [tf.TensorSpec((None, SIDE, SIDE, 1), tf.float32, name=INPUT)]
    # tf2onnx takes the layers of Keras 3 as the function that they are
    inference = tf.function(lambda image: {OUTPUT: model(image, training=False)}, input_signature=signature)
    tf2onnx.convert.from_function(inference, signature, opset=opset, output_path=str(folder / "model.onnx"))


def main() -> None:
    """Trains or converts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "convert"])
    parser.add_argument("folder", type=Path, help="where the model is written to and read from")
    parser.add_argument("--data", type=Path, help="npz with images, labels and held_out")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--opset", type=int, default=18)
    options = parser.parse_args()
    if options.what == "train":
        train(options.data, options.folder, options.epochs)
    else:
        convert(options.folder, options.opset)


if __name__ == "__main__":
    main()
