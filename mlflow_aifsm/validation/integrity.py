"""Faults behind the log's back: what was logged is changed afterwards."""

from __future__ import annotations

import shutil

import torch

from mlflow_aifsm import identity
from mlflow_aifsm.result import Result
from mlflow_aifsm.review import declare
from mlflow_aifsm.tracking import keys
from mlflow_aifsm.tracking.connection import client
from mlflow_aifsm.tracking.read import logs_of_run, model_folder
from mlflow_aifsm.validation.bench import PERSON, converted, exported, frozen, network, quantized
from mlflow_aifsm.validation.trial import broken, fault, finding
from mlflow_aifsm.validation.workplace import registered

HASHES = "ONNX safety-related profile, AI-006: hashes over all files of a model"


@fault(broken("model.onnx.data"), HASHES)
def external_data_altered() -> Result:
    """A model whose weights lie in a second file is logged, then one byte of that file is changed."""
    result = converted(exported(network(), external_data=True), network())
    weights = model_folder(result.model_uri) / "model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    return result


@fault(broken("model.onnx: sha256"), HASHES)
def delivered_file_replaced() -> Result:
    """The logged model is replaced by one of another training."""
    result = frozen(network())
    shutil.copyfile(exported(network(seed=1)), model_folder(result.model_uri) / "model.onnx")
    return result


@fault(
    finding("input_changed_after_verification"), "Automotive SPICE 4.0, MLE.4 BP4 and BP6; EASA Concept Paper Issue 02, CM-01"
)
def verified_model_replaced() -> Result:
    """A registered model is declared verified; its weights are replaced by those of another training; then it is frozen."""
    model = identity.stamp(registered(network()), "test report 1", PERSON)
    torch.save(network(seed=1), model_folder(model.uri) / "data" / "model.pth")
    return frozen(model.uri)


@fault(broken("record.json"), "IEC 61508-1 5.2.11: documents under control; EU AI Act Annex IV 2(g)")
def record_edited() -> Result:
    """The record of a good model is edited where it was logged: another person is responsible for it."""
    result = frozen(network())
    (log,) = logs_of_run(result.run_id)
    edited = log.record.replace(PERSON.encode(), b"A. Nobody").decode()
    client().log_text(result.run_id, edited, f"{keys.folder(log.log)}/{keys.RECORD}")
    return result


@fault(broken("responsible"), "IEC 61508-1 5.2.11: documents under control")
def tag_edited() -> Result:
    """A tag of the run is edited, so that the run's page names another person than the record."""
    result = frozen(network())
    client().set_tag(result.run_id, keys.tag("conversion", "responsible"), "A. Nobody")
    return result


@fault(finding("declared_not_found", "int8"), "AI-FSM Model Optimization Log v1.0, Table 1, Weight quantization: precision")
def declaration_against_the_file() -> Result:
    """A person declares that the 8-bit model has 16 bits."""
    result = quantized()
    declare(result.run_id, "aifsm.ptq.precision", "int16", PERSON)
    return result
