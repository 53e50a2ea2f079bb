"""Files as exporters and quantizers really write them, made once a session: a small CNN, left in evaluation and in training."""

import os
from pathlib import Path

os.environ.setdefault("DO_NOT_TRACK", "1")

import numpy as np
import onnx
import pytest
import torch
from torch import nn


class Small(nn.Module):
    """Conv, BatchNorm, ReLU, depthwise Conv with ReLU6 and residual, strided Conv, Dropout, Linear; input [n, 1, 8, 8]."""

    def __init__(self):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.dw, self.b2 = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16)
        self.c2, self.drop, self.fc = nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.Dropout(0.2), nn.Linear(32, 10)

    def forward(self, x):
        x = torch.relu(self.b1(self.c1(x)))
        x = x + nn.functional.relu6(self.b2(self.dw(x)))
        return self.fc(self.drop(torch.relu(self.c2(x)).mean((2, 3))))


class Linears(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(64, 32, bias=False), nn.Linear(32, 10, bias=False)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)))


def batches(count=10):
    noise = np.random.default_rng(0)
    return [noise.normal(size=(4, 1, 8, 8)).astype(np.float32) for _ in range(count)]


def export(model, example, path, **options):
    torch.onnx.export(
        model, (example,), str(path), dynamo=True, input_names=["x"], output_names=["y"], verbose=False, **options
    )
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="session")
def module():
    torch.manual_seed(0)
    return Small()


@pytest.fixture(scope="session")
def float_file(folder, module):
    """Exported in evaluation mode: weights in an external file, BatchNorm folded, batch size open."""
    return export(module.eval(), torch.randn(4, 1, 8, 8), folder / "float.onnx", dynamic_shapes=({0: "batch"},))


@pytest.fixture(scope="session")
def training_file(folder, module, float_file):
    """Exported in training mode: Dropout is left."""
    return export(module.train(), torch.randn(4, 1, 8, 8), folder / "training.onnx", dynamic_shapes=({0: "batch"},))


@pytest.fixture(scope="session")
def unfolded_file(folder, module, float_file):
    """Exported without the exporter's optimizer: BatchNormalization nodes are left."""
    return export(module.eval(), torch.randn(4, 1, 8, 8), folder / "unfolded.onnx", optimize=False, external_data=False)


@pytest.fixture(scope="session")
def linear_file(folder):
    torch.manual_seed(0)
    return export(Linears().eval(), torch.randn(4, 64), folder / "linear.onnx", external_data=False)


@pytest.fixture(scope="session")
def prepared(folder, float_file):
    from onnxruntime.quantization.shape_inference import quant_pre_process

    inline, target = folder / "inline.onnx", folder / "prepared.onnx"
    onnx.save(onnx.load(float_file), inline)
    quant_pre_process(str(inline), str(target))
    return target


@pytest.fixture(scope="session")
def static(folder, prepared):
    """``static(name, **arguments)``: a file from ORT's quantize_static with these arguments."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.items = iter([{"x": batch} for batch in batches()])

        def get_next(self):
            return next(self.items, None)

    def make(name: str, **arguments) -> Path:
        if not (folder / name).exists():
            quantize_static(str(prepared), str(folder / name), Reader(), **arguments)
        return folder / name

    return make


@pytest.fixture(scope="session")
def static_file(static):
    """ORT, static: activations uint8 asymmetric, weights int8 symmetric and per channel."""
    from onnxruntime.quantization import QuantType

    return static("static.onnx", per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


@pytest.fixture(scope="session")
def lost_file(static):
    """ORT, static, with the option that deletes ReLU although ranges reach below zero."""
    from onnxruntime.quantization import QuantType

    options = {"CalibTensorRangeSymmetric": True}
    return static("lost.onnx", activation_type=QuantType.QUInt8, extra_options=options)


@pytest.fixture(scope="session")
def dynamic_file(folder, prepared):
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(prepared), str(folder / "dynamic.onnx"))
    return folder / "dynamic.onnx"


@pytest.fixture(scope="session")
def nncf_file(folder, float_file):
    """NNCF's defaults, the last layer left out."""
    import nncf

    data = nncf.Dataset(batches(), lambda batch: {"x": batch})
    left_out = nncf.IgnoredScope(types=["Gemm"])
    model = nncf.quantize(onnx.load(float_file), data, subset_size=10, ignored_scope=left_out)
    onnx.save(model, folder / "nncf.onnx")
    return folder / "nncf.onnx"


@pytest.fixture(scope="session")
def int4_file(folder, linear_file):
    """NNCF's 4-bit weights in groups of 16, as MatMulNBits."""
    import nncf

    mode = nncf.CompressWeightsMode.INT4_SYM
    model = nncf.compress_weights(onnx.load(linear_file), mode=mode, group_size=16, all_layers=True)
    onnx.save(model, folder / "int4.onnx")
    return folder / "int4.onnx"
