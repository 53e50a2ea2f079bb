"""Evidence as real logs give it: a digits CNN that was frozen, and the same quantized; complete, and with everything wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mlflow_aifsm.digests import FileDigest
from mlflow_aifsm.facts import Fact, Facts, Finding, captured, measured, not_recorded
from mlflow_aifsm.fill import declared_record, fill
from mlflow_aifsm.record import Check, Declaration, Evidence, Record, Supersedes, VerificationResult
from mlflow_aifsm.template import load
from tests.report.sample_facts import (
    FLOAT,
    MADE_AT,
    conversion_facts,
    digest,
    optimization_facts,
    quantizer_rows,
    sparsity_rows,
)

RUN = "3f9a1c5e7b2d48f6a0c4e8d2b6f01357"
OLDER_RUN = "0b7d2e4f6a8c41e3b5d7f90a2c4e6b81"
COVER = {
    "project": "Kerbside Digit Reader",
    "organisation": "Nordlys Rail Systems",
    "rev": "B",
    "ref": "NRS-KDR-0417",
}
DOCUMENTS = {"conversion": "KDR-MCL-003", "optimization": "KDR-MOL-004"}
NUMBERS = {"max_diff": 2.4e-06, "p99_diff": 1.1e-06, "sqnr_db": 118.42, "flips": 0, "accuracy": 0.9847, "nan": 0}


def conversion() -> Evidence:
    """A frozen CNN: every field answered, verified, declared twice, superseding an older log."""
    said = (
        Declaration("aifsm.conversion.responsible", "Akiko Ito", "A. Ito", "2026-11-20T15:01:40+01:00"),
        Declaration(
            "aifsm.model.data_sets",
            "UCI digits, 1,078 training images, split of 2026-10-02",
            "M. Lindqvist",
            "2026-11-21T09:12:00+01:00",
        ),
    )
    record = _record("conversion", conversion_facts(), log_id="digits_3-MC-3f9a1c5e", subject="digits, version 3 (DigitsCNN)")
    record = replace(
        record, supersedes=Supersedes(OLDER_RUN, digest("older record")), notes=("The exporter rewrote opset 18 to 20.",)
    )
    return _evidence(record, said)


def optimization() -> Evidence:
    """The same CNN in int8: complete, with tables by layer."""
    record = _record("optimization", optimization_facts(), log_id="digits_3-MO-3f9a1c5e", subject="digits, version 3 (int8)")
    tables = {"quantizers": tuple(quantizer_rows()), "sparsity": tuple(sparsity_rows())}
    return replace(_evidence(record), tables=tables)


def conversion_with_gaps() -> Evidence:
    """A conversion by root that forgot a Dropout, without verification, training run, packages or cover."""
    left = Finding(
        "training_operation_left",
        asked="no Dropout that drops at inference",
        measured="Dropout node 'node_dropout_4' with training_mode = true",
        effect="outputs change from run to run on a runtime that honours it",
    )
    kept = [fact for fact in conversion_facts() if not fact.name.startswith(("training.", "model.", "converter.packages"))]
    changed = [
        captured("log.responsible", "root", source="account name"),
        measured("graph.dropout", "1 Dropout node among 10 nodes, training_mode = true", 1, source=FLOAT, findings=[left]),
        not_recorded("training.dropout", "the source was a graph module without layers", "pass training=run_id"),
        not_recorded("training.gradient_clipping", "no training run was named", "pass training=run_id"),
        not_recorded("graph.lr_scheduling", "the file holds tensors without names"),
    ]
    record = _record("conversion", [*kept, *changed], log_id="unregistered-MC-77aa01b2", subject="unregistered")
    return Evidence(replace(record, cover={}, verification=None), digest("stored"), f"runs:/{RUN}")


def optimization_with_findings() -> Evidence:
    """An int4 request that gave int8, a failed verification, a changed file, and a declaration that the file contradicts."""
    accepted = Finding(
        "data_reused",
        asked="samples unseen",
        measured="12 of 300 calibration samples verified",
        effect="optimistic",
        open=False,
    )
    changed = [
        captured("asked.precision", "int4 weights, int8 activations", ["int4", "int8"], source="call"),
        captured(
            "calibration.method", "Entropy (KL divergence) over 300 samples", "entropy", source="call", findings=[accepted]
        ),
        not_recorded(
            "pruning.patterns",
            "the zeros could not be counted: tensor 'fc.weight' is missing",
            "mlflow-aifsm record {target} FILE",
        ),
    ]
    said = (Declaration("aifsm.ptq.scheme", "asymmetric", "A. Ito", "2026-11-21T08:00:00+01:00"),)
    record = _record(
        "optimization", [*optimization_facts(), *changed], log_id="digits_3-MO-9c00d1e2", subject="digits, version 3 (int4)"
    )
    failed = replace(
        _verified(),
        passed=False,
        reason="",
        numbers={**NUMBERS, "max_diff": 4.8125, "flips": 61, "accuracy": 0.8842},
    )
    broken = Check(
        "delivered files against the record", False, "digits_int8.onnx: sha256 9d1f22ab7c01…, recorded b21e77c0aa45…"
    )
    return _evidence(replace(record, verification=failed), said, (broken,))


def _record(log: str, known: Iterable[Fact], *, log_id: str, subject: str) -> Record:
    template = load(log)
    delivered = FileDigest("digits.onnx" if log == "conversion" else "digits_int8.onnx", 27_114, digest(log))
    return Record(
        template=template,
        log_id=log_id,
        run_id=RUN,
        made_at=MADE_AT,
        tool="mlflow-aifsm 0.1.0",
        entries=fill(
            template,
            Facts().with_facts([*known, captured("log.id", log_id, source="derived from the verified model and the run id")]),
        ),
        subject=subject,
        input_sha256=digest("input"),
        output_sha256=delivered.sha256,
        input_files=(FileDigest("data/model.pth", 31_402, digest("weights")), FileDigest("MLmodel", 812, digest("mlmodel"))),
        output_files=(delivered,),
        verification=_verified(),
        cover={**COVER, "document_id": DOCUMENTS[log]},
    )


def _verified() -> VerificationResult:
    return VerificationResult(
        passed=True,
        criterion="approximate",
        metric="largest absolute difference of outputs",
        epsilon=1e-4,
        reason="a hundredth of the smallest margin between two classes on the test images",
        samples=719,
        data="UCI digits, test split",
        data_sha256=digest("verification data"),
        runtime="ONNX Runtime 1.30.0, CPUExecutionProvider, optimizations off",
        numbers=NUMBERS,
    )


def _evidence(record: Record, said: tuple[Declaration, ...] = (), more: tuple[Check, ...] = ()) -> Evidence:
    checks = (
        Check("record.json against the run's tag", True, f"sha256 {record.sha256}"),
        Check("artifacts against manifest.json", True, "11 files unchanged"),
        *more,
        Check("input model in the registry", None, "the registry could not be reached"),
    )
    return Evidence(declared_record(record, said), record.sha256, RUN, checks, said)
