"""Facts as captures give them: of a digits CNN that was frozen to ONNX, and of the same file quantized to int8."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_aifsm.digests import sha256_bytes
from mlflow_aifsm.facts import Fact, Json, captured, measured, not_applicable

TRAINING = "run 8d1e0f3a5c7b4926 (training)"
FLOAT = "digits.onnx, sha256 5f0c1d9a"
INT8 = "digits_int8.onnx, sha256 b21e77c0"
MADE_AT = "2026-11-20T14:32:07+01:00"
HOST = {
    "system": "Linux",
    "kernel": "6.1.0-29-amd64",
    "distribution": "Debian GNU/Linux 12 (bookworm)",
    "machine": "x86_64",
    "processor": "AMD EPYC 7B13",
    "vector_flags": ["avx", "avx2", "fma"],
    "cores": {"logical": 2, "physical": 1, "usable": 2},
    "memory": 8_326_483_968,
    "accelerator": None,
    "python": "3.11.2",
    "variables": {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "0"},
    "torch": {"threads": 2, "deterministic_algorithms": True, "seed": 7},
}
HOST_TEXT = "Debian GNU/Linux 12, x86_64, AMD EPYC 7B13 (2 cores), 8.3 GB of memory, no accelerator, Python 3.11.2"
PACKAGES = {"torch": "2.13.0", "onnx": "1.21.0", "onnxscript": "0.7.1", "numpy": "2.4.2", "protobuf": "6.33.1"}
EXPORT = (
    "torch.onnx.export(dynamo=True, opset_version=20, dynamic_shapes={'image': {0: 'batch'}}, optimize=True); "
    "script freeze_digits.py, commit 41c9d07, tree clean"
)
QUANTIZE = (
    "quantize_static(quant_format=QDQ, per_channel=True, reduce_range=False, calibrate_method=MinMax, "
    "extra_options={'ActivationSymmetric': False})"
)
SCALE = (
    "s = (2^b − 1) / (α − β) for 5 activations; s = (2^(b−1) − 1) / α for 4 weights. "
    "Annex B lists b, α, β, z, s and 1/s of each."
)


def digest(name: str) -> str:
    """A stable SHA-256 for a thing that has no bytes here."""
    return sha256_bytes(name.encode())


def conversion_facts() -> list[Fact]:
    """All facts of a conversion but the log's own id."""
    file = (
        ("graph.inputs", "image: float32 [batch, 1, 8, 8]", None),
        ("graph.outputs", "logits: float32 [batch, 10]", None),
        ("graph.dropout", "no Dropout node among 9 nodes", 0),
        ("graph.batch_normalization", "no BatchNormalization node; 3 were folded into Conv by the exporter", 0),
        ("graph.gradient_clipping", "no gradient or optimizer operator among 9 nodes", 0),
        ("graph.lr_scheduling", "no optimizer or schedule state among 8 initializers", 0),
        ("graph.weight_regularization", "no loss node and no reparametrization", 0),
        ("graph.producer", "pytorch 2.13.0", None),
        ("graph.source_paths", "11 absolute source paths were stripped from node metadata", 0),
        ("graph.opset", "opset 20", 20),
    )
    run = (
        ("training.framework", "PyTorch 2.13.0"),
        ("training.metrics", "accuracy 0.9847 on 719 test images"),
        ("training.dropout", "Dropout(p=0.25) ×2"),
        ("training.batch_normalization", "BatchNorm2d ×3, momentum 0.1, running statistics kept"),
        ("training.gradient_clipping", "clip_grad_norm_(max_norm=1.0)"),
        ("training.lr_scheduling", "CosineAnnealingLR(T_max=30)"),
        ("training.weight_regularization", "L2: AdamW, weight_decay 0.01"),
        ("training.other", "label smoothing 0.05"),
        ("training.run", "8d1e0f3a5c7b4926b0d2f4a6c8e01357"),
    )
    mode = "Evaluation mode; it was in training mode, and model.eval() was called before the export."
    packages = "torch 2.13.0, onnx 1.21.0, onnxscript 0.7.1 and 2 dependencies (see packages.txt)"
    return [
        *_head("aito", "account name", "digits_3", "models:/digits/3"),
        *(measured(name, text, data, source=FLOAT) for name, text, data in file),
        *(captured(name, text, source=TRAINING) for name, text in run),
        captured("model.architecture", "DigitsCNN: Conv2d ×3, BatchNorm2d ×3, ReLU ×3, Dropout ×2, Linear ×1", source="module"),
        captured("model.mode", mode, source="module"),
        captured("model.parameters", "5,818 parameters", 5818, source="module"),
        not_applicable("graph.other", "the file holds no random or loss operator", {"nodes": 9, "found": 0}, source=FLOAT),
        captured("converter.framework", "PyTorch 2.13.0+cpu", source="imported module"),
        captured("converter.packages", packages, PACKAGES, source="installed distributions"),
        captured("converter.call", EXPORT, source="call"),
        captured("asked.opset", "opset 18", 18, source="call"),
    ]


def optimization_facts() -> list[Fact]:
    """All facts of an int8 optimization without pruning but the log's own id."""
    bits = "8-bit: weights int8 (int8_t), activations uint8 (uint8_t), biases int32"
    file: tuple[tuple[str, str, Json], ...] = (
        ("quantizers.transformation", "f(x) = s·x + z for activations, f(x) = s·x for weights (every z is 0)", None),
        ("quantizers.scale", SCALE, None),
        ("quantizers.precision", bits, ["int8", "uint8"]),
        ("quantizers.scheme", "Weights symmetric, activations asymmetric", ["symmetric", "asymmetric"]),
        ("quantizers.technique", "Integer quantization (static, QDQ)", "static"),
        ("quantizers.granularity", "Weights channelwise (axis 0), activations layerwise", ["channel", "layer"]),
        ("runtime.integer_operators", "4 of 4 layers run in integers (QLinearConv ×3, QGemm ×1)", 4),
        ("quantizers.lost_non_linearities", "3 of 3 Relu kept", 0),
    )
    ranges = "Range set to the minimum and maximum seen during calibration, on 300 samples of UCI digits"
    packages = "onnxruntime 1.30.0, onnx 1.21.0 and 3 dependencies (see packages.txt)"
    pruned = ("the model was not pruned: 0 of 5,530 weights are zero", {"weights": 5530, "zeros": 0})
    return [
        *_head("Akiko Ito", "aifsm.toml", "digits_3-MC-3f9a1c5e", "log of the conversion"),
        *(measured(name, text, data, source=INT8) for name, text, data in file),
        captured("calibration.method", ranges, "min_max", source="call"),
        captured("quantization.framework", "ONNX Runtime 1.30.0", source="imported module"),
        captured("quantization.packages", packages, {**PACKAGES, "onnxruntime": "1.30.0"}, source="installed distributions"),
        captured("asked.precision", "weights int8, activations uint8", ["int8", "uint8"], source="call"),
        captured("quantization.call", QUANTIZE, source="call"),
        *(
            not_applicable(f"pruning.{name}", *pruned, source=INT8)
            for name in ("framework", "packages", "criteria", "patterns", "call")
        ),
        not_applicable("recovery.partial", "every layer is quantized", {"layers": 4, "in float": 0}, source=INT8),
        not_applicable("recovery.qat", "no training ran in the operation", source="call"),
        not_applicable("recovery.learned", "no training ran in the operation", source="call"),
    ]


def quantizer_rows() -> Iterable[dict[str, Json]]:
    """One row for each quantized tensor."""
    for number in range(1, 5):
        weight = {
            "tensor": f"conv{number}.weight",
            "kind": "weight",
            "layer": f"node_conv_{number}",
            "dtype": "int8",
            "bits": 8,
        }
        yield {**weight, "granularity": "channel", "axis": 0, **_ranges((0.0021, 0.0066), (-0.8382, -0.2667), (0.2667, 0.8382))}
        output = {"tensor": f"/layer{number}/Relu_output_0", "kind": "activation", "layer": "Relu", "dtype": "uint8", "bits": 8}
        yield {**output, "granularity": "layer", "axis": None, **_ranges((0.0104314,) * 2, (0.0, 0.0), (2.66, 2.66))}


def sparsity_rows() -> Iterable[dict[str, Json]]:
    """One row for each weight."""
    for number, size in enumerate((72, 1152, 2304, 2002), start=1):
        yield {
            "tensor": f"conv{number}.weight",
            "layer": f"node_conv_{number}",
            "size": size,
            "zeros": 0,
            "beside": 3,
            "ratio": 0.0,
        }


def _ranges(scale: tuple[float, float], beta: tuple[float, float], alpha: tuple[float, float]) -> dict[str, Json]:
    factors = (1 / scale[1], 1 / scale[0])
    spans = {"scale": scale, "s": factors, "zero_point": (0, 0), "alpha": alpha, "beta": beta}
    return {f"{name}_{end}": value for name, span in spans.items() for end, value in zip(("min", "max"), span, strict=True)}


def _head(responsible: str, origin: str, input_id: str, source: str) -> list[Fact]:
    return [
        captured("log.date", MADE_AT, source="clock of the host"),
        captured("log.responsible", responsible, source=origin),
        captured("log.phase", "Inference Management", source="template"),
        captured("input.id", input_id, source=source),
        captured("input.digest", digest("input"), source=source),
        captured("environment.host", HOST_TEXT, HOST, source="host"),
    ]
