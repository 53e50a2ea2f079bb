"""Draws ``docs/patterns.png``: what each pattern prunes of one weight. Run it with ``python tests/patterns_picture.py``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from mlflow_aifsm.capture.patterns import Pattern
from mlflow_aifsm.capture.tiles import select

PICTURE = Path(__file__).parents[1] / "docs" / "patterns.png"
PATTERNS = ("element", "vector:4", "block:4x4", "group", "channel", "2:4")
SHAPE = (8, 4, 3, 3)
"""Output channels, input channels, kernel height and width."""
COLOURS = ListedColormap(["#e6e9ee", "#2c5d8f"])
"""Of what is pruned and of what is kept."""


def masks() -> dict[str, np.ndarray]:
    """What each pattern keeps of half of the same weight, ``[out, in·kh·kw]``, bool."""
    scores = {"weight": np.abs(np.random.default_rng(4).normal(size=SHAPE))}
    chosen = {word: select(scores, Pattern.of(word), 0.5, "local").masks["weight"] for word in PATTERNS}
    return {word: mask.reshape(len(mask), -1) != 0 for word, mask in chosen.items()}


def draw(path: Path) -> None:
    """Writes the picture, the same bytes each time."""
    figure = Figure((12, 3.1), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (word, mask) in zip(figure.subplots(2, 3).flat, masks().items(), strict=True):
        axes.pcolormesh(mask[::-1], cmap=COLOURS, vmin=0, vmax=1, edgecolors="white", linewidth=0.8)
        axes.vlines(np.arange(9, 36, 9), 0, 8, colors="#c05621", linewidth=1)
        axes.set(aspect="equal", xticks=[], yticks=[], xlabel="4 inputs of 3 × 3 weights", ylabel="8 outputs")
        axes.set_title(word, family="monospace", fontsize=12)
        axes.spines[:].set_visible(False)
    figure.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    draw(PICTURE)
