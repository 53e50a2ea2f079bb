"""PyTorch's random generators are the user's: what is read and judged here must not change what they train afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept() -> Iterator[None]:
    """Puts PyTorch's generators back, from which a DataLoader draws whenever it is read; nothing to keep without PyTorch."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    with torch.random.fork_rng():
        yield
