"""Facts of the pruning rows: what pruned, by which criterion, what the threshold was, and what won accuracy back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlflow_aifsm.capture.environment import package_fact
from mlflow_aifsm.capture.patterns import N_OF_M
from mlflow_aifsm.facts import Fact, Facts, Json, captured
from mlflow_aifsm.operations.pruned import Found, Pruned
from mlflow_aifsm.operations.steps import Step

RECOVERING = ("fine_tune", "batch_norm_adaptation")


def pruning_facts(pruned: Sequence[Pruned], steps: Sequence[Step], found: Sequence[Found]) -> list[Fact]:
    """What is known of a pruning besides its call.

    Args:
        pruned: The calls, at least one.
        steps: All steps of the optimization.
        found: What was found on the float file, for each call.
    """
    frameworks = list(dict.fromkeys(one.framework for one in pruned))
    packages = tuple(dict.fromkeys(name for one in pruned for name in one.packages))
    words = [_criterion(one, seen) for one, seen in zip(pruned, found, strict=True)]
    criteria = captured(
        "pruning.criteria",
        "; then ".join(dict.fromkeys(words)),
        [_data(one) for one in pruned],
        source="masks that were applied, and zeros of the float file",
        short=_short(pruned[-1]),
        findings=[finding for seen in found for finding in seen.findings if finding.code == "threshold_not_held"],
    )
    framework = captured(
        "pruning.framework",
        "; ".join(frameworks),
        frameworks,
        source="installed packages",
        short=frameworks[-1].partition(" (")[0],
    )
    return [framework, package_fact("pruning.packages", packages), criteria, _recovery(steps)]


def with_findings(facts: Facts, found: Sequence[Found]) -> list[Fact]:
    """The measured pattern with what was not held of the amount and the pattern that were asked for."""
    fact = facts.get("pruning.patterns")
    wrong = [finding for seen in found for finding in seen.findings if finding.code != "threshold_not_held"]
    return [replace(fact, findings=(*fact.findings, *wrong))] if fact is not None and wrong else []


def _criterion(pruned: Pruned, found: Found) -> str:
    config, last = pruned.config, pruned.applied[-1]
    limits = sorted(limit for limit in last.thresholds.values() if limit is not None)
    if config.tiles.kind == N_OF_M:
        said = (
            f"no threshold: of every {config.tiles.columns} neighbours the {config.tiles.kept} with the highest scores are kept"
        )
    elif not limits:
        said = f"{config.scope} threshold"
    elif config.scope == "global" or len(limits) == 1:
        said = f"{config.scope} threshold, {limits[-1]:.4g}"
    else:
        said = f"local threshold, one for each of {len(limits)} layers, from {limits[0]:.4g} to {limits[-1]:.4g}"
    said += f", after the last of {len(pruned.applied)} steps" if limits and len(pruned.applied) > 1 else ""
    tile = "" if config.tiles.rows == config.tiles.columns == 1 else ", mean over a tile"
    read = f", {pruned.read}" if pruned.read else ""
    return f"{config.criterion}{tile}{read}, {said}" + (f" ({found.threshold})" if found.threshold else "")


def _short(pruned: Pruned) -> str:
    """``weight_magnitude_global`` and its like: what runs are compared by."""
    word = pruned.config.criterion.split(",")[0].partition(" |")
    return f"{word[0].lower().replace(' ', '_')}_{pruned.config.scope}"


def _data(pruned: Pruned) -> Json:
    steps = [{"amount": one.amount, "thresholds": one.thresholds, "reached": one.reached} for one in pruned.applied]
    return {"criterion": pruned.config.criterion, "scope": pruned.config.scope, "steps": steps}


def _recovery(steps: Sequence[Step]) -> Fact:
    """What won accuracy back, with the number after each step where there were data to measure it on."""
    told = [f"{_worth(step)} {step.what}" if _worth(step) else step.what for step in steps if _counts(step)]
    done = [step for step in steps if step.operation in RECOVERING]
    head = "" if done else "Nothing was done to recover accuracy: one shot. "
    data = [{"operation": step.operation, "what": step.what, **step.measured} for step in steps if _counts(step)]
    short = "+".join(dict.fromkeys(step.operation for step in done)) or "none"
    return captured(
        "pruning.recovery", f"{head}{'; '.join(told)}", data, source="training as it was seen, step by step", short=short
    )


def _counts(step: Step) -> bool:
    return step.operation in ("start", "prune", *RECOVERING)


def _worth(step: Step) -> str:
    if step.worth is None:
        return ""
    name, value = step.worth
    return f"{name.replace('_', ' ')} {value:.4f}:"
