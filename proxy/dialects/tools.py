"""Which tools a request may bring: those that run at the client and cost tokens alone.

Everything else runs at the provider, with fees and repeated reading that no request bounds, so an unknown tool
counts as hosted. Sources: the tool types of the OpenAI and Anthropic SDKs.
"""

from typing import Any

_CLIENT = frozenset({"function", "custom", "local_shell", "apply_patch"})
_ANTHROPIC_CLIENT = ("bash_", "text_editor_", "computer_", "memory_")


def hosted_tool(tools: Any) -> str | None:
    """Name the first tool on OpenAI's wire that the provider runs, or None."""
    for tool in tools if type(tools) is list else ():
        if type(tool) is not dict:
            continue
        kind = tool.get("type")
        # Of another kind than a word it may be unhashable.
        if type(kind) is str and (kind in _CLIENT or _runs_at_the_client(kind, tool)):
            continue
        nested = hosted_tool(tool.get("tools")) if kind == "namespace" else str(kind)[:64]
        if nested is not None:
            return nested
    return None


def server_tool(tools: Any) -> str | None:
    """Name the first tool on Anthropic's wire that the provider runs, or None."""
    for tool in tools if type(tools) is list else ():
        kind = tool.get("type") if type(tool) is dict else None
        if kind is None or kind == "custom":
            continue
        # Toolsets of a browser or a computer run in the provider's own containers.
        if type(kind) is not str or not kind.startswith(_ANTHROPIC_CLIENT) or "toolset" in kind:
            return str(kind)[:64]
    return None


def typed_tools(tools: Any) -> int:
    """Count tools that bring a definition of the provider's own into the prompt."""
    if type(tools) is not list:
        return 0
    return sum(1 for tool in tools if type(tool) is dict and tool.get("type") not in (None, "custom", "function"))


def _runs_at_the_client(kind: Any, tool: dict[str, Any]) -> bool:
    if kind == "tool_search":
        return tool.get("execution") == "client"
    if kind == "shell":
        environment = tool.get("environment")
        return type(environment) is dict and environment.get("type") == "local"
    return False
