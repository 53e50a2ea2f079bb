"""Post-training quantization of an ONNX classifier, in the shape of NNCF's own example; three lines are added to it.

Run it with the path of a float model that takes digits ``[n, 1, 8, 8]``: ``python example_nncf_onnx.py model.onnx``.
"""

import sys

import mlflow
import nncf
import numpy as np
import onnx
import onnxruntime as ort
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score

import mlflow_aifsm  # added


def validate(path_to_model: str, validation_loader: torch.utils.data.DataLoader) -> float:
    sess = ort.InferenceSession(path_to_model, providers=["CPUExecutionProvider"])
    input_name = sess.get_inputs()[0].name
    predictions, references = [], []
    for images, target in validation_loader:
        pred = sess.run(None, {input_name: images.numpy()})[0]
        predictions.append(np.argmax(pred, axis=1))
        references.append(target)
    return accuracy_score(np.concatenate(references), np.concatenate(predictions))


def digits(first: int, last: int) -> torch.utils.data.DataLoader:
    images, labels = load_digits(return_X_y=True)
    tensors = torch.from_numpy((images / 16).astype(np.float32).reshape(-1, 1, 8, 8)), torch.from_numpy(labels)
    dataset = torch.utils.data.TensorDataset(*(tensor[first:last] for tensor in tensors))
    return torch.utils.data.DataLoader(dataset, batch_size=1, shuffle=False)


def quantize_and_validate(path_to_model: str) -> float:
    model = onnx.load(path_to_model)
    calibration_loader, validation_loader = digits(1200, 1500), digits(1500, 1797)
    input_name = model.graph.input[0].name

    def transform_fn(data_item: tuple[torch.Tensor, torch.Tensor]) -> dict[str, np.ndarray]:
        images, _ = data_item
        return {input_name: images.numpy()}

    calibration_dataset = nncf.Dataset(calibration_loader, transform_fn)
    onnx_quantized_model = nncf.quantize(model, calibration_dataset)
    onnx.save(onnx_quantized_model, "digits_int8.onnx")
    return validate("digits_int8.onnx", validation_loader)


if __name__ == "__main__":
    mlflow_aifsm.autolog()  # added
    with mlflow.start_run():  # added
        print(f"[2/3] Accuracy @ top1: {quantize_and_validate(sys.argv[1]):.3f}")
