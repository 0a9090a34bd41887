"""Takes values out of documents that people wrote, and says where one is not what it should be. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from accounts.instants import instant_of
from integrations.imports.wanted import BadFile


@dataclass(frozen=True, slots=True)
class Node:
    """A mapping in a document, and where it stands."""

    values: Mapping[str, Any]
    where: str

    @classmethod
    def of(cls, value: object, where: str) -> "Node":
        """Raises `BadFile` for anything but a mapping."""
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise BadFile(f"{where} should be a mapping.")
        return cls(value, where)

    def only(self, *names: str) -> None:
        """Raise `BadFile` where there are other names: a misspelt limit must not be none."""
        if unknown := [name for name in self.values if name not in names]:
            raise BadFile(f"{self.where} has a field that is not known: {unknown[0][:64]}.")

    def text(self, name: str) -> str | None:
        value: str | None = self._value(name, str, "a text")
        return value

    def needed(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise BadFile(f"{self.where} has no `{name}`.")
        return value

    def word(self, name: str, words: Collection[str]) -> str | None:
        """One of these words. Raises `BadFile` with all of them for another one."""
        value = self.text(name)
        if value is not None and value not in words:
            raise BadFile(f"`{name}` of {self.where} is not one of {', '.join(words)}.")
        return value

    def words(self, name: str, words: Collection[str]) -> tuple[str, ...] | None:
        """Some of these words. Raises `BadFile` like `word`."""
        values = self.texts(name)
        if values is not None and not set(values) <= set(words):
            raise BadFile(f"`{name}` of {self.where} has another word than {', '.join(words)}.")
        return values

    def whole(self, name: str) -> int | None:
        value: int | None = self._value(name, int, "a whole number")
        if isinstance(value, bool):
            raise BadFile(f"`{name}` of {self.where} should be a whole number.")
        return value

    def truth(self, name: str) -> bool | None:
        value: bool | None = self._value(name, bool, "true or false")
        return value

    def moment(self, name: str) -> datetime | None:
        """A time with its zone, written as text or as YAML's own."""
        value = self.values.get(name)
        if value is None:
            return None
        try:
            return instant_of(value.isoformat() if isinstance(value, datetime) else str(value))
        except ValueError:
            raise BadFile(
                f"`{name}` of {self.where} should be a time with its zone, like 2027-03-01T00:00:00Z."
            ) from None

    def texts(self, name: str) -> tuple[str, ...] | None:
        value = self._value(name, list, "a list of texts")
        if value is None:
            return None
        if not all(isinstance(item, str) for item in value):
            raise BadFile(f"`{name}` of {self.where} should be a list of texts.")
        return tuple(value)

    def wholes(self, name: str) -> tuple[int, ...] | None:
        value = self._value(name, list, "a list of whole numbers")
        if value is None:
            return None
        if not all(isinstance(item, int) and not isinstance(item, bool) for item in value):
            raise BadFile(f"`{name}` of {self.where} should be a list of whole numbers.")
        return tuple(value)

    def nodes(self, name: str) -> Iterator["Node"]:
        """The mappings of a list, which may be missing."""
        for number, item in enumerate(self._value(name, list, "a list") or (), start=1):
            yield Node.of(item, f"number {number} of `{name}`")

    def node(self, name: str) -> "Node":
        """The mapping of that name, empty where it is missing."""
        return Node.of(self.values.get(name) or {}, f"`{name}`")

    def _value(self, name: str, kind: type[Any], what: str) -> Any:
        value = self.values.get(name)
        if value is not None and not isinstance(value, kind):
            raise BadFile(f"`{name}` of {self.where} should be {what}.")
        return value
