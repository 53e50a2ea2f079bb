"""Section 5: the acronyms of the template, and those that the document uses."""

from __future__ import annotations

import re
from collections.abc import Iterable

ACRONYMS = (
    ("BN", "Batch Normalization"),
    ("CNN", "Convolutional Neural Network"),
    ("CPU", "Central Processing Unit"),
    ("CSV", "Comma-Separated Values"),
    ("dB", "Decibel"),
    ("GPU", "Graphics Processing Unit"),
    ("ID", "Identifier"),
    ("JSON", "JavaScript Object Notation"),
    ("KL", "Kullback-Leibler (divergence)"),
    ("MAC", "Multiply-Accumulate operation"),
    ("NNCF", "Neural Network Compression Framework"),
    ("ONNX", "Open Neural Network Exchange"),
    ("ORT", "ONNX Runtime"),
    ("PTQ", "Post-Training Quantization"),
    ("QAT", "Quantization-Aware Training"),
    ("QDQ", "Quantize-Dequantize pairs"),
    ("RAM", "Random-Access Memory"),
    ("SHA", "Secure Hash Algorithm"),
    ("SQNR", "Signal to Quantization Noise Ratio"),
    ("TOML", "Tom's Obvious Minimal Language"),
    ("UTC", "Coordinated Universal Time"),
)


def used(template: Iterable[tuple[str, str]], text: str) -> tuple[tuple[str, str], ...]:
    """The template's acronyms in its order, then those of the table above that stand in ``text`` as words of their own."""
    own = tuple(template)
    known = {short for short, _ in own}
    found = set(re.findall(r"[A-Za-z]+", text))
    return (*own, *((short, long) for short, long in ACRONYMS if short in found and short not in known))
