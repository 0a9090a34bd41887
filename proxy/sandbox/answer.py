"""What the sandbox says: the same prompt always gets the same words and the same counts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import cycle, islice
from typing import Any

from proxy.sandbox.reply import Refusal

CHAT_MODELS = ("sandbox-small", "sandbox-large")
EMBEDDING_MODEL = "sandbox-embedding"
MODELS = (*CHAT_MODELS, EMBEDDING_MODEL)

MAX_OUTPUT_TOKENS = 4096
"""A larger cap is taken as this one, as agents ask for far more than they need."""
MAX_PAUSE_MS = 2000
MAX_CHUNKS = 60
MAX_CHOICES = 16

TOKEN_CHARS = 4
"""One output token is four characters of text, the last one may be shorter."""
NATURAL_CHARS = range(164, 236)
"""Length of an answer to which nobody set a length: 41 to 59 tokens."""

PASSAGE = (
    "The customs house stands where the river meets the sea. Every crate that leaves a ship is weighed, "
    "named and written into the book before it may pass the gate. The clerk does not guess and does not "
    "forget, and what he writes is never struck out. A merchant who asks what he owes is shown the line, "
    "the weight and the rate. A merchant who has spent his allowance is told so at the door, with the sum "
    "and the day on which it is renewed. At night the lamp burns over the ledger, and in the morning the "
    "sums of the harbour and the sums of the house agree to the last coin."
)
WORDS = re.findall(r"\S+", PASSAGE)


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice of one call."""

    text: str
    capped: bool
    """The cap of the request ended it, not the end of what there was to say."""

    @property
    def tokens(self) -> int:
        """Output tokens of this choice."""
        return -(-len(self.text) // TOKEN_CHARS)

    def chunks(self) -> list[str]:
        """The text in whole tokens, three or more at a time, in at most sixty pieces."""
        size = TOKEN_CHARS * max(3, -(-self.tokens // MAX_CHUNKS))
        return [self.text[start : start + size] for start in range(0, len(self.text), size)]


def compose(prompt: str, *, cap: int | None, choice: int = 0) -> Answer:
    """Answer a prompt. `[full]` in it makes the answer exactly as long as the cap.

    `cap` is in tokens, `None` leaves the length open. Different choices of one prompt get different words.
    """
    ceiling = min(cap or MAX_OUTPUT_TOKENS, MAX_OUTPUT_TOKENS) * TOKEN_CHARS
    digest = sha256(f"{choice} {prompt}".encode("utf-8", "replace")).digest()
    start = int.from_bytes(digest[:4], "big") % len(WORDS)
    if "[full]" in prompt:
        return Answer(text=_words(start, ceiling), capped=True)
    length = NATURAL_CHARS[digest[4] % len(NATURAL_CHARS)]
    opening = f"You asked: {_gist(prompt)} - "
    whole_words = (opening + _words(start, length))[:length].rpartition(" ")[0]
    text = whole_words.rstrip(" .,-") + "."
    return Answer(text=text[:ceiling], capped=len(text) > ceiling)


def pause_seconds(prompt: str) -> float:
    """The pause that `[slow:MS]` in a prompt asks for, so that calls can be seen in flight."""
    asked = re.search(r"\[slow:(\d{1,9})\]", prompt)
    return min(int(asked.group(1)), MAX_PAUSE_MS) / 1000 if asked else 0.0


def read_cap(body: Mapping[str, Any], *names: str) -> int | None:
    """The first output cap among `names` that the request sets. Raises `Refusal` unless it is a count."""
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise Refusal(400, f"`{name}` must be a whole number of at least 1.", param=name)
        return value
    return None


def read_choices(body: Mapping[str, Any]) -> int:
    """How many choices the request wants. Raises `Refusal` beyond `MAX_CHOICES`."""
    wanted = body.get("n")
    if wanted is None:
        return 1
    if not isinstance(wanted, int) or isinstance(wanted, bool) or not 1 <= wanted <= MAX_CHOICES:
        raise Refusal(400, f"`n` must be a whole number from 1 to {MAX_CHOICES}.", param="n")
    return wanted


def read_text(content: object) -> str:
    """The text of a message's content, which is a string or a list of parts with a `text` each."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict))
    return " ".join(text for text in texts if isinstance(text, str))


def last_user_text(messages: object, *, param: str) -> str:
    """The text of the last message whose role is `user`. Raises `Refusal` unless given a list of objects."""
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise Refusal(400, f"`{param}` must be a non-empty list of messages.", param=param)
    texts = [read_text(message.get("content")) for message in messages if message.get("role") == "user"]
    return texts[-1] if texts else ""


def _gist(prompt: str) -> str:
    spoken = re.sub(r"\[(full|slow:\d+)\]", " ", prompt)
    return " ".join(spoken.split())[:64].rstrip(" .,?!") or "nothing"


def _words(start: int, length: int) -> str:
    """The passage from a word of it on, again and again, cut at `length` characters."""
    words = islice(cycle(WORDS), start, start + length // 2 + 1)
    return " ".join(words)[:length]
