"""What was asked for, in the words of the template, as facts that stand beside what is found on the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mlflow_aifsm.facts import Fact, captured
from mlflow_aifsm.operations.quantization import ACTIVATIONS, WEIGHTS, Dynamic, Static, WeightOnly

SOURCE = "arguments of quantize"
WORDS = {"layer": "layerwise", "channel": "channelwise", "group": "groupwise"}
"""The template's words of granularity."""


def asked(config: Static | Dynamic | WeightOnly, *, by_sign: bool = False) -> tuple[Fact, ...]:
    """``asked.precision``, ``asked.scheme``, ``asked.technique`` and ``asked.granularity`` of ``config``.

    Settings by layer are looked up layer by layer; here they take their part out of the comparison of the whole.

    Args:
        config: What was asked.
        by_sign: Whether the backend chooses signed or unsigned activations by the sign of each tensor.
    """
    if isinstance(config, Static):
        return _static(config, by_sign=by_sign)
    if isinstance(config, Dynamic):
        words, granularity = {WEIGHTS: config.weights}, {WEIGHTS: WORDS[config.granularity]}
        return _facts(words, {WEIGHTS: config.scheme}, "integer quantization (dynamic)", granularity)
    precision = {WEIGHTS: f"{'' if config.scheme == 'symmetric' else 'u'}int{config.bits}"}
    return _facts(precision, {WEIGHTS: config.scheme}, "weight quantization", {WEIGHTS: "groupwise"})


def _static(config: Static, *, by_sign: bool) -> tuple[Fact, ...]:
    precision, schemes = {WEIGHTS: config.weights, ACTIVATIONS: config.activations}, config.schemes
    if config.ranges == "max_abs":
        schemes[ACTIVATIONS] = "symmetric"  # a range from −m to m is, whatever its type
    granularity = {part: WORDS[word] for part, word in config.granularities.items()}
    free = {setting for settings in config.overrides.values() for setting in settings}
    apart = {"scheme"} | {ACTIVATIONS, WEIGHTS} if "scheme" in free else free
    loose = {ACTIVATIONS} if by_sign else set()
    return _facts(precision, schemes, "integer quantization (static, QDQ)", granularity, apart | loose)


def _facts(
    precision: Mapping[str, str],
    scheme: Mapping[str, str],
    technique: str,
    granularity: Mapping[str, str],
    loose: Collection[str] = (),
) -> tuple[Fact, ...]:
    """Facts of what was asked; parts of precision and scheme that are ``loose`` are said and not compared."""
    held = {part: [word] for part, word in precision.items() if part not in loose}
    schemes = {} if "scheme" in loose else dict(scheme)
    known = (("precision", precision, held), ("scheme", scheme, schemes), ("granularity", granularity, dict(granularity)))
    facts = [captured(f"asked.{name}", _text(parts), data or None, source=SOURCE) for name, parts, data in known]
    return (*facts, captured("asked.technique", technique, technique, source=SOURCE))


def _text(parts: Mapping[str, str]) -> str:
    return ", ".join(f"{part} {word}" for part, word in parts.items())
