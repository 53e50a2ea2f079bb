"""In which types the weights of a file lie, whatever kind of file it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mlflow_aifsm.facts import Fact, measured


def precision(tensors: Iterable[tuple[str, int]], source: str) -> Fact:
    """The fact ``graph.precision``: how many stored values have which type; the commonest is its short form.

    Args:
        tensors: Type and number of elements of each stored tensor.
        source: How facts name the file.
    """
    counts: Counter[str] = Counter()
    for dtype, elements in tensors:
        counts[dtype] += elements
    ranked = counts.most_common()
    text = ", ".join(f"{dtype} {count:,}" for dtype, count in ranked)
    return measured(
        "graph.precision",
        f"Stored values: {text}" if text else "No stored value",
        dict(counts),
        source=source,
        short=ranked[0][0] if ranked else "none",
    )
