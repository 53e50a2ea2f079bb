"""One call of a recorded function: its arguments, what is handed to the function in their place, and what it returned."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mlflow_aifsm.capture import command
from mlflow_aifsm.facts import Json
from mlflow_aifsm.hooks.arguments import flattened, told


@dataclass(slots=True, eq=False)
class Call:
    """A call that is being recorded.

    Attributes:
        function: The function with its module, as users import it.
        original: The function itself.
        args: Arguments by position, as they were given.
        kwargs: Arguments by name.
        result: What the call returned, once it did.
    """

    function: str
    original: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any = None
    _instead: dict[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, Any]:
        """All arguments by name, the function's own defaults for those that were not given.

        Raises:
            TypeError: If they do not fit the function.
        """
        bound = self._bound()
        bound.apply_defaults()
        return dict(bound.arguments)

    @property
    def given(self) -> frozenset[str]:
        """Names of the arguments that were given."""
        return frozenset(self._bound().arguments)

    @property
    def parameters(self) -> frozenset[str]:
        """Names that the installed version of the function takes."""
        return frozenset(inspect.signature(self.original).parameters)

    def hand_over(self, name: str, value: Any) -> None:
        """Gives the function ``value`` in the place of an argument: the same, watched, or one that was left out."""
        self._instead[name] = value

    def restore(self) -> None:
        """Gives the function its arguments as they were given."""
        self._instead.clear()

    def make(self) -> Any:
        """Calls the function."""
        if not self._instead:
            return self.original(*self.args, **self.kwargs)
        bound = self._bound()
        bound.arguments.update(self._instead)
        return self.original(*bound.args, **bound.kwargs)

    def settings(
        self, without: Collection[str], unset: Mapping[str, Any] = MappingProxyType({})
    ) -> tuple[dict[str, Json], dict[str, Json]]:
        """The arguments as JSON, and those of them that are not the function's defaults, with dotted names; without secrets.

        Args:
            without: Arguments that are no settings: the model, the data, places.
            unset: What the function takes for an argument that is None.
        """
        defaults = {name: one.default for name, one in inspect.signature(self.original).parameters.items()}
        said, usual = (
            command.settings(
                {
                    name: told(unset.get(name) if value is None else value)
                    for name, value in values.items()
                    if name not in without
                }
            )
            for values in (self.arguments, defaults)
        )
        flat = flattened(usual)
        return said, {name: value for name, value in flattened(said).items() if name not in flat or flat[name] != value}

    def _bound(self) -> inspect.BoundArguments:
        return inspect.signature(self.original).bind(*self.args, **self.kwargs)
