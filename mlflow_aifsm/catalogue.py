"""Everything that can be known about a model, by name: the vocabulary that capture, templates and records share.

This is the only list of names: a capture that yields another one, or a template that asks for one, fails at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FactType:
    """Definition of a fact: its name, what it means, the unit of ``data``, and its key where a run holds it.

    A number is a metric. A category is a param: that of a field, or, of a fact that stands beside one, the one named here.
    """

    name: str
    meaning: str
    unit: str = ""
    metric: str = ""
    param: str = ""


def _catalogue() -> dict[str, FactType]:
    rows = (
        # identity of the log
        FactType("log.id", "identifier of this log"),
        FactType("log.date", "day of the conversion or optimization, ISO 8601 with time zone"),
        FactType("log.responsible", "person who converts the model"),
        FactType("log.phase", "phase of the AI-FSM lifecycle"),
        FactType("input.id", "verified learning model id or model conversion id"),
        FactType("input.digest", "SHA-256 of the input model's file set"),
        FactType("input.verified", "who declared the input verified, and whether its bytes are still those"),
        FactType("output.digest", "SHA-256 of the delivered file set"),
        # the model before conversion
        FactType("model.architecture", "class and layers of the source model"),
        FactType("model.parameters", "number of parameters of the source model", "count", "aifsm.model.parameters"),
        FactType("model.mode", "training or evaluation mode of the source model, and what was done about it"),
        FactType("training.framework", "framework the model was trained with"),
        FactType("training.run", "run that trained the model"),
        FactType("training.data_sets", "data sets the training run names"),
        FactType("training.metrics", "metrics of the training run, or of the registered model"),
        FactType("training.dropout", "dropout in the source model"),
        FactType("training.batch_normalization", "batch normalization in the source model"),
        FactType("training.gradient_clipping", "gradient clipping in training"),
        FactType("training.lr_scheduling", "learning-rate schedule in training"),
        FactType("training.weight_regularization", "L1 or L2 weight regularization in training"),
        FactType("training.other", "other training-only parts of the source model"),
        # the delivered graph
        FactType("graph.inputs", "names, types and shapes of the file's inputs"),
        FactType("graph.outputs", "names, types and shapes of the file's outputs"),
        FactType("graph.opset", "operator set version of the file"),
        FactType("graph.precision", "types in which the file stores its weights", "number of values by type"),
        FactType("graph.producer", "producer name and version in the file"),
        FactType("graph.operators", "number of nodes by operator type", "count"),
        FactType("graph.size", "bytes of the file and its external data", "bytes", "aifsm.size"),
        FactType("graph.canonical_digest", "SHA-256 over weights, nodes, inputs and outputs, metadata left out"),
        FactType("graph.dropout", "dropout in the file"),
        FactType("graph.batch_normalization", "batch normalization in the file: folded, frozen or computing statistics"),
        FactType("graph.gradient_clipping", "gradient and optimizer operators in the file"),
        FactType("graph.lr_scheduling", "optimizer or schedule state in the file"),
        FactType("graph.weight_regularization", "loss terms and reparametrizations in the file"),
        FactType("graph.other", "random, loss or other training-only operators in the file"),
        FactType("graph.source_paths", "absolute source paths in node metadata, and whether they were stripped"),
        # the tools and the place
        FactType("asked.opset", "operator set version that was asked for"),
        FactType("converter.framework", "framework that converted, with version"),
        FactType("converter.packages", "packages of the conversion, with versions"),
        FactType("converter.call", "converter with configuration and resolved parameters, and the stored script"),
        FactType("environment.host", "operating system, processor, memory, accelerator, Python, threads, seeds"),
        # calibration and quantization
        FactType("calibration.method", "how the range of each activation was set, on which data"),
        FactType(
            "calibration.clip_fraction",
            "largest share of a tensor's calibration values outside its range",
            "ratio in [0, 1]",
            "aifsm.clip_fraction",
        ),
        FactType("quantizers.transformation", "function from real values to integers"),
        FactType("quantizers.scale", "scale factors with range, levels and formula"),
        FactType("quantization.framework", "framework that quantized, with version"),
        FactType("quantization.packages", "packages of the quantization, with versions"),
        FactType("quantization.call", "all arguments of the quantization with resolved defaults"),
        FactType("asked.precision", "precision that was asked for"),
        FactType("asked.scheme", "scheme that was asked for"),
        FactType("asked.technique", "technique that was asked for"),
        FactType("asked.granularity", "granularity that was asked for"),
        FactType("quantizers.precision", "bits and type of weights, activations and biases in the file"),
        FactType("quantizers.scheme", "symmetric or asymmetric, weights and activations apart"),
        FactType("quantizers.technique", "what the file quantizes: weights, or weights and activations"),
        FactType("quantizers.granularity", "layerwise, channelwise or groupwise, weights and activations apart"),
        FactType(
            "quantizers.weight_codes", "whether each weight's codes are those of the float weight under scale and zero point"
        ),
        FactType("quantizers.float_layers", "layers left in floating point"),
        FactType("quantizers.lost_non_linearities", "activation functions of the float graph that the file lost"),
        FactType("runtime.integer_operators", "operators that the target runtime runs in integers"),
        FactType("runtime.integer_ratio", "share of layers run in integers", "ratio in [0, 1]", "aifsm.integer_ops_ratio"),
        FactType(
            "runtime.speedup", "time of the float model over that of the delivered one, side by side", "ratio", "aifsm.speedup"
        ),
        # pruning and recovery
        FactType("zeros.ratio", "share of weights that are zero", "ratio in [0, 1]", "aifsm.zeros"),
        FactType("pruning.framework", "framework that pruned, with version"),
        FactType("pruning.packages", "packages of the pruning, with versions"),
        FactType("pruning.criteria", "criterion and scope of the threshold"),
        FactType("pruning.patterns", "pattern the zeros hold"),
        FactType("pruning.call", "schedule, layers left out, and the calls that pruned"),
        FactType("pruning.recovery", "what won accuracy back after pruning, and what that was measured to do"),
        FactType(
            "workload.parameters", "weights of the layers, and those that are not zero", "count", "aifsm.nonzero_parameters"
        ),
        FactType(
            "workload.multiply_adds",
            "multiply-adds for one sample, and those with weights that are not zero",
            "count",
            "aifsm.nonzero_multiply_adds",
        ),
        FactType(
            "workload.compressed",
            "compressed size of the delivered file set, over that of its input",
            "ratio",
            "aifsm.compressed_ratio",
        ),
        FactType(
            "recovery.bias_correction",
            "whether biases were corrected, and what that was measured to do",
            param="aifsm.recovery.bias_correction",
        ),
        FactType("recovery.partial", "layers kept in higher precision, and why"),
        FactType("recovery.qat", "quantization-aware training"),
        FactType("recovery.learned", "quantization parameters learned in training"),
        FactType("qat.base", "model that quantization-aware training began with, and the log that holds it"),
        FactType("qat.ranges", "how ranges were set before training, and the quantization that training began with"),
        FactType("qat.epochs", "epochs and optimizer steps of quantization-aware training", "count", "aifsm.qat.epochs"),
        FactType("qat.metrics", "metrics by epoch"),
        FactType("qat.optimizer", "optimizer and learning rates of quantization-aware training"),
        FactType("qat.schedule", "learning-rate schedule of quantization-aware training"),
        FactType("qat.data", "data of quantization-aware training, with their digest"),
        FactType("qat.seeds", "seeds of quantization-aware training"),
        FactType("qat.batch_normalization", "whether statistics of batch normalization moved in quantization-aware training"),
        FactType("qat.agreement", "how the file agrees with the trained fake-quantized model, in quantization steps", "steps"),
        FactType("qat.float_layers", "layers that the runtime computes in float, with the reason for each"),
        # verification
        FactType("verification.result", "criterion, data and result of the verification"),
        FactType("verification.max_diff", "largest absolute difference of outputs", "output unit", "aifsm.max_diff"),
        FactType("verification.p99_diff", "99th percentile of absolute differences", "output unit", "aifsm.p99_diff"),
        FactType("verification.sqnr_db", "signal to quantization noise ratio of the outputs", "dB", "aifsm.sqnr_db"),
        FactType("verification.agreement", "samples with the float model's decision", "ratio in [0, 1]", "aifsm.agreement"),
        FactType("verification.flips", "samples whose decision changed", "count", "aifsm.flips"),
        FactType("verification.accuracy", "accuracy of the delivered model", "ratio in [0, 1]", "aifsm.accuracy"),
        FactType("verification.accuracy_drop", "accuracy before minus after", "ratio in [-1, 1]", "aifsm.accuracy_drop"),
        FactType(
            "verification.worst_class_drop",
            "recall that the class that lost most has lost",
            "ratio in [-1, 1]",
            "aifsm.worst_class_drop",
        ),
        FactType(
            "verification.worst_class_recall",
            "recall of the class that lost most",
            "ratio in [0, 1]",
            "aifsm.worst_class_recall",
        ),
        FactType(
            "verification.low_margin",
            "changed decisions among the samples that the float model decided by the smallest margins",
        ),
        FactType("verification.slices", "accuracy and changed decisions by slice of the data"),
        FactType("verification.layer_sqnr", "signal to quantization noise ratio at each quantized tensor", "dB"),
        FactType("size.ratio", "size of the delivered file over that of its input", "ratio", "aifsm.size_ratio"),
    )
    return {row.name: row for row in rows}


CATALOGUE: Mapping[str, FactType] = _catalogue()
