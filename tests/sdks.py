"""The SDKs of providers, loaded where a test first uses one: it takes seconds, which each process would spend."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import anthropic as anthropic
    import openai as openai
else:

    class Later:
        """Stands for a module, and loads it when something of it is wanted."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            # pytest asks everything that it finds in a file whether it is a fixture in disguise.
            if attribute.startswith("_"):
                raise AttributeError(attribute)
            return getattr(import_module(self._name), attribute)

    anthropic, openai = Later("anthropic"), Later("openai")


def load() -> None:
    """Load both now, so that no test that takes the time waits for it."""
    import_module("anthropic")
    import_module("openai")
