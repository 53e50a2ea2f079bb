"""What was asked for, in the words of the template, as facts that stand beside what is found on the file."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_aifsm.facts import Fact, captured
from mlflow_aifsm.operations.quantization import ACTIVATIONS, WEIGHTS, Dynamic, Static, WeightOnly

SOURCE = "arguments of quantize"
WORDS = {"layer": "layerwise", "channel": "channelwise", "group": "groupwise"}
"""The template's words of granularity."""


def asked(config: Static | Dynamic | WeightOnly) -> tuple[Fact, ...]:
    """``asked.precision``, ``asked.scheme``, ``asked.technique`` and ``asked.granularity`` of ``config``."""
    if isinstance(config, Static):
        return _static(config)
    if isinstance(config, Dynamic):
        weights = {WEIGHTS: [config.weights]}
        return _facts(weights, {WEIGHTS: config.scheme}, "integer quantization (dynamic)", {WEIGHTS: WORDS[config.granularity]})
    types = {WEIGHTS: [f"{'' if config.scheme == 'symmetric' else 'u'}int{config.bits}"]}
    return _facts(types, {WEIGHTS: config.scheme}, "weight quantization", {WEIGHTS: "groupwise"})


def _static(config: Static) -> tuple[Fact, ...]:
    precision = {part: sorted(_types(config, part)) for part in (WEIGHTS, ACTIVATIONS)}
    granularity = {part: WORDS[word] for part, word in config.granularities.items()}
    schemes = {part: word for part, word in config.schemes.items() if not _differs(config)}
    return _facts(precision, schemes, "integer quantization (static, QDQ)", granularity)


def _types(config: Static, part: str) -> set[str]:
    given = config.weights if part == WEIGHTS else config.activations
    return {given, *(str(settings[part]) for settings in config.overrides.values() if part in settings)}


def _differs(config: Static) -> bool:
    """Whether a layer has a scheme of its own: then no one word is asked."""
    return any("scheme" in settings for settings in config.overrides.values())


def _facts(
    precision: Mapping[str, list[str]], scheme: Mapping[str, str], technique: str, granularity: Mapping[str, str]
) -> tuple[Fact, ...]:
    parts = {"precision": {part: "/".join(types) for part, types in precision.items()}, "scheme": scheme}
    parts |= {"granularity": granularity}
    data = {"precision": dict(precision), "scheme": dict(scheme), "granularity": dict(granularity)}
    facts = [captured(f"asked.{name}", _text(parts[name]), data[name], source=SOURCE) for name in data if data[name]]
    return (*facts, captured("asked.technique", technique, technique, source=SOURCE))


def _text(parts: Mapping[str, str]) -> str:
    return ", ".join(f"{part} {word}" for part, word in parts.items())
