"""What a log says of its verification besides the numbers: who holds the criterion, where it ran, whether the data are new."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import replace

from mlflow_aifsm.capture.source_code import SourceCode
from mlflow_aifsm.facts import Fact, Facts, Finding, State
from mlflow_aifsm.record import VerificationResult
from mlflow_aifsm.verification.criterion import Verification
from mlflow_aifsm.verification.outcome import WORST_CLASS
from mlflow_aifsm.verification.run import REUSED

FITTED = ("calibration.method", "pruning.recovery", "training.data_sets")
"""Facts that name data which the model was fitted to."""
DONE = ("quantization.call", "pruning.call", "converter.call", "input.id")
"""Facts that name what was done to the model, the last step first; the one that every log has comes last."""


def holder(verification: Verification, source: SourceCode) -> str:
    """Where the criterion stands: a script that is committed as it ran holds it, else nothing older than the call does."""
    if verification.epsilon is None and verification.limits is None:
        return ""
    word = "epsilon" if verification.epsilon is not None else "limits"
    if source.commit and source.dirty is False and not source.differs and _gives(source, word):
        return f"{source.name}, commit {source.commit}"
    return "criterion supplied with the call"


def _gives(source: SourceCode, word: str) -> bool:
    """Whether the code passes an argument of that name; a comment, a text or a variable called alike holds no criterion."""
    try:
        tree = ast.parse(source.content) if source.name.endswith(".py") else None
    except (SyntaxError, ValueError):
        tree = None
    if tree is None:  # a notebook, whose code stands in texts
        return re.search(rf"\b{word}\s*=(?!=)".encode(), source.content) is not None
    return any(isinstance(node, ast.keyword) and node.arg == word for node in ast.walk(tree))


def environments(verification: Verification, log: str, made: Fact | None, elsewhere: str = "") -> str:
    """How the place of the verification differs from that of the conversion (EASA Concept Paper IMP-07).

    Args:
        verification: What was asked.
        log: ``conversion`` or ``optimization``.
        made: The environment of the log, as far as it is known by now.
        elsewhere: Where the work was done, if that was not this process.
    """
    if verification.outputs is not None:
        place = verification.runtime or "not recorded"
        return f"Verified outside the environment of the log: target device, {place}."
    if made is not None and made.state is State.NOT_RECORDED:
        return f"The environment of the {log} is not known, so neither is its difference from that of the verification."
    if elsewhere:
        return f"The {log} ran in {elsewhere}; the environment of the log is that of the process that recorded and verified."
    return f"{log.capitalize()} and verification ran in one process: the environment of the log is that of both."


def reused(result: VerificationResult, facts: Facts) -> list[Fact]:
    """The data that trained or calibrated, with a finding where they also verify (Automotive SPICE 4.0, MLE.4 BP2)."""
    count = int(result.numbers.get(REUSED, 0))
    known = [fact for name in FITTED if (fact := facts.get(name)) is not None]
    used = next((fact for fact in known if fact.state is not State.NOT_APPLICABLE), known[0] if known else None)
    if not count or used is None:
        return []
    asked, effect = "verification data that nothing was fitted to", "the verification says less about data not seen before"
    finding = Finding("data_reused", "", asked, f"{count} samples are in both", effect)
    return [replace(used, findings=(*used.findings, finding))]


def lost_classes(verified: Iterable[Fact], facts: Facts) -> list[Fact]:
    """What was done, with the finding that it cost a class: no row of a document shows the fact that carries it.

    Args:
        verified: The facts of the verification.
        facts: Those of the log.
    """
    findings = [finding for fact in verified if fact.name == WORST_CLASS for finding in fact.findings]
    known = [fact for name in DONE if (fact := facts.get(name)) is not None]
    done = next((fact for fact in known if fact.state is not State.NOT_APPLICABLE), None)
    return [replace(done, findings=(*done.findings, *findings))] if done is not None and findings else []
