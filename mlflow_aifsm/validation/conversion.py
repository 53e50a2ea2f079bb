"""Faults of a converter: the file computes something else than the trained model, or holds what belongs to training."""

from __future__ import annotations

import copy
import warnings

import onnx
import torch
from onnx import helper
from torch import nn

from mlflow_aifsm.operations.configs import BATCH, Pt2
from mlflow_aifsm.result import Result
from mlflow_aifsm.validation.bench import converted, edited, exported, frozen, network, traced
from mlflow_aifsm.validation.models import Plain, perceptron, trained
from mlflow_aifsm.validation.trial import failed, fault, finding

PHIMT0002 = "AI-FSM PhIMT0002, Elimination of Training-Specific Operations"


class AlwaysDropping(Plain):
    """Dropout written as a function, which forgets that there is an evaluation mode."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores ``[n, 10]``, another time others."""
        features = torch.relu(self.norm(self.conv(image))).flatten(1)
        return self.fc(nn.functional.dropout(features, 0.25, training=True))  # type: ignore[no-any-return]


class Branching(nn.Module):
    """Scores that are halved for bright images: a branch that depends on the data."""

    def __init__(self, inner: nn.Module, threshold: float) -> None:
        super().__init__()
        self.inner, self.threshold = inner, threshold

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores ``[n, 10]``."""
        scores: torch.Tensor = self.inner(image)
        return scores / 2 if bool(image.mean() > self.threshold) else scores


class TwoHeads(nn.Module):
    """Class scores and their negatives, in this order or swapped."""

    def __init__(self, inner: nn.Module, *, swapped: bool) -> None:
        super().__init__()
        self.inner, self.swapped = inner, swapped

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Two outputs ``[n, 10]``."""
        scores = self.inner(image)
        return (-scores, scores) if self.swapped else (scores, -scores)


@fault(finding("training_operation_left", "Dropout"), f"{PHIMT0002}; pytorch issue 103681")
def exported_in_training_mode() -> Result:
    """The exporter keeps training mode: Dropout stays active, and BatchNormalization takes statistics of the batch."""
    training = torch.onnx.TrainingMode.TRAINING
    module = network().train()
    return converted(traced(module, training=training, do_constant_folding=False), network())


@fault(finding("training_operation_left", "Dropout"), PHIMT0002)
def functional_dropout() -> Result:
    """Dropout is called as a function that is told to train, so evaluation mode does not switch it off."""
    return frozen(trained(AlwaysDropping))


@fault(finding("training_operation_left", "dropout"), PHIMT0002)
def functional_dropout_in_pt2() -> Result:
    """Dropout is called as a function that is told to train, and the network is frozen to a pt2 archive of PyTorch."""
    return frozen(trained(AlwaysDropping), Pt2(dynamic_shapes=BATCH))


@fault(failed("depend on the other samples of the batch"), f"{PHIMT0002}; pytorch issues 52867 and 49229")
def batch_normalization_on_batch_statistics() -> Result:
    """BatchNormalization keeps no running statistics: on every whole batch the file agrees with the trained model."""
    return frozen(trained(lambda: Plain(running=False)))


@fault(failed("largest difference"), "ED-324 / ARP6983 (draft 5b) 6.4.3.6e: the largest gap on a data set, not on one example")
def branch_traced_away() -> Result:
    """A branch that depends on the data is traced: the file holds only the side that the example took."""
    module = Branching(network(), threshold=0.31).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return converted(traced(module), module)


@fault(failed("largest difference"), "Louloudakis et al. 2023, arXiv 2312.15101: faults of the graph")
def classes_permuted() -> Result:
    """The converter reverses the order of the classes."""
    module = network()
    with torch.no_grad():
        module.fc.weight.copy_(module.fc.weight.flip(0))
        module.fc.bias.copy_(module.fc.bias.flip(0))
    return converted(exported(module), network())


@fault(failed("largest difference"), "Louloudakis et al. 2023, arXiv 2312.15101: faults of the graph")
def outputs_swapped() -> Result:
    """A network with two outputs of equal shape is delivered with them in the other order."""
    file = exported(TwoHeads(network(), swapped=True).eval())
    return converted(file, TwoHeads(network(), swapped=False).eval())


@fault(failed("largest difference"), "Louloudakis et al. 2023, arXiv 2312.15101: faults of hyperparameters")
def batch_normalization_epsilon() -> Result:
    """BatchNormalization gets another framework's default epsilon, 1e-3 in place of 1e-5."""
    module = network()
    module.norm.eps = 1e-3
    return converted(exported(module), network())


@fault(failed("largest difference"), "Jajal et al. 2024, arXiv 2303.17708: most defects are in node conversion")
def activation_function_approximated() -> Result:
    """GELU is replaced by its approximation with tanh."""
    reference = trained(perceptron)
    module = copy.deepcopy(reference)
    module[3] = nn.GELU(approximate="tanh")
    return converted(exported(module), reference)


@fault(failed("not a registered function"), "nncf issue 1445: operators of a domain that the runtime does not know")
def operator_without_kernel() -> Result:
    """The file holds an operator that the runtime cannot run; a verification that cannot run has failed."""

    def put(graph: onnx.GraphProto) -> None:
        graph.node[-1].op_type, graph.node[-1].domain = "FusedGemm", "org.example"

    path = edited(exported(network()), put)
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("org.example", 1))
    onnx.save(model, path)
    return converted(path, network())
