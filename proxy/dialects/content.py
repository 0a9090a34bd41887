"""What a request gives the model to read besides text: media, and things that only the provider can see."""

from dataclasses import dataclass, field
from typing import Any

from proxy.dialects.tools import hosted_tool


@dataclass(slots=True)
class Content:
    """Findings in the messages of one request."""

    images: int = 0
    audio: bool = False
    """There is something to hear, be it of known length or not."""
    audio_bytes: int = 0
    """Length of base64 audio."""
    hidden_bytes: int = 0
    """Length of base64 data that no model reads as text."""
    unbounded: list[str] = field(default_factory=list)
    """Fields whose size only the provider knows."""
    refused: str | None = None
    """The first field that cannot be metered."""

    def refuse(self, name: str) -> None:
        self.refused = self.refused or name

    def open_ended(self, name: str) -> None:
        if name not in self.unbounded:
            self.unbounded.append(name)


# Arguments of tool calls are the client's own JSON and are text to the model, so they are not looked into.
_NESTED = ("content", "output")
_PLAIN_KEYS = frozenset(
    {"type", "role", "content", "text", "cache_control", "name", "input", "tool_use_id", "is_error", "thinking"}
    | {"signature", "refusal", "call_id", "arguments", "output", "summary", "annotations", "logprobs"}
    | {"tool_calls", "tool_call_id", "prompt_cache_breakpoint", "phase", "status", "encrypted_content"}
)


def look_at(messages: Any, name: str, found: Content) -> None:
    """Walk messages or input items, named `name` in the request, and note what is not text."""
    stack = [messages]
    while stack:
        node = stack.pop()
        if type(node) is list:
            for child in node:
                kind = type(child)
                if kind is list or (kind is dict and not _is_plain(child)):
                    stack.append(child)
        elif type(node) is dict:
            if not node.keys() <= _PLAIN_KEYS:
                _note(node, name, found)
            for key in _NESTED:
                child = node.get(key)
                if type(child) in (dict, list):
                    stack.append(child)


def _is_plain(part: dict[str, Any]) -> bool:
    """A message of one text, or a part that is a text: most of every request, so told apart cheaply."""
    if len(part) != 2:
        return False
    return (
        type(part.get("content")) is str and "role" in part if "content" in part else "text" in part and "type" in part
    )


def _note(part: dict[str, Any], name: str, found: Content) -> None:
    if part.get("file_id") is not None:
        found.refuse(f"{name}.file_id")
    for key in ("image_url", "file_url", "video_url", "audio_url"):
        if part.get(key) is not None:
            _note_url(part[key], key, name, found)
    if part.get("file_data") is not None:
        _note_file(part["file_data"], name, found)
    if type(part.get("file")) is dict:
        _note(part["file"], f"{name}.file", found)
    if type(part.get("input_audio")) is dict:
        _note_audio(part["input_audio"], found)
    if type(part.get("source")) is dict:
        _note_source(part, part["source"], name, found)
    if type(part.get("audio")) is dict:
        found.audio = True
        found.open_ended(f"{name}.audio")
    kind = part.get("type")
    if kind == "item_reference" or (kind is None and "role" not in part and "id" in part):
        found.open_ended(f"{name}.item_reference")
    elif kind == "image_generation_call":
        found.images += 1
        _hide(part.get("result"), found)
        found.open_ended(f"{name}.image_generation_call")
    if kind in ("additional_tools", "tool_search_output") and (tool := hosted_tool(part.get("tools"))):
        found.refuse(f"{name}.tools: {tool}")


def _note_url(value: Any, key: str, name: str, found: Content) -> None:
    url = value.get("url") if type(value) is dict else value
    if type(value) is dict and value.get("file_id") is not None:
        found.refuse(f"{name}.{key}.file_id")
    inline = type(url) is str and url[:5].lower() == "data:"
    if inline:
        _hide(url, found)
    if key == "image_url":
        found.images += 1
    elif key == "audio_url":
        found.audio = True
    if key != "image_url" or not inline:
        found.open_ended(f"{name}.{key}")


def _note_file(data: Any, name: str, found: Content) -> None:
    # Pages of a document are rendered and read twice, as text and as images: no rule bounds them.
    _hide(data, found)
    found.open_ended(f"{name}.file_data")


def _note_audio(audio: dict[str, Any], found: Content) -> None:
    found.audio = True
    data = audio.get("data")
    if type(data) is str:
        found.audio_bytes += len(data)
        _hide(data, found)


def _note_source(part: dict[str, Any], source: dict[str, Any], name: str, found: Content) -> None:
    kind = source.get("type")
    if kind == "file" or source.get("file_id") is not None:
        found.refuse(f"{name}.source.file_id")
    elif kind == "base64":
        _hide(source.get("data"), found)
        if part.get("type") == "image":
            found.images += 1
        else:
            found.open_ended(f"{name}.source.data")
    elif kind == "content":
        look_at(source.get("content"), name, found)
    elif kind != "text":
        found.open_ended(f"{name}.source.url")
        found.images += part.get("type") == "image"


def _hide(data: Any, found: Content) -> None:
    if type(data) is str:
        found.hidden_bytes += len(data)
