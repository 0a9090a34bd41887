"""The fields of what REST answers, each with a value that stands for it in examples."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from rest_framework import serializers

AN_ID = "0198c2f4-7d5e-7b60-9a3c-1f2e3d4c5b6a"
ANOTHER_ID = "0198c2f5-0a1b-7c2d-8e3f-4a5b6c7d8e9f"
A_TIME = "2026-11-26T09:30:00.123456Z"
A_LATER_TIME = "2026-12-01T00:00:00Z"


class Record(serializers.Serializer[Any]):
    """What an answer holds; every field is always there."""

    patterns: ClassVar[Mapping[str, Any]] = {}
    """What more it has, under names that calls gave: patterns of such names, each with what stands there."""

    @classmethod
    def example(cls) -> dict[str, Any]:
        """One that could have been answered."""
        return {name: example_of(field) for name, field in cls().fields.items() if _is_told(field)}


def example_of(field: Any) -> Any:
    """What stands for a field: its own example, or those of what it is made of."""
    if isinstance(field, Record):
        return type(field).example()
    if isinstance(field, serializers.ListSerializer):
        return [example_of(field.child)]
    # The one value of a field that means nothing to answers, and that its copies keep.
    return field.initial


def _is_told(field: Any) -> bool:
    """Whether an example can say it: not what is there only sometimes, unless that is made of records."""
    return bool(field.required) or isinstance(field, serializers.ListSerializer)


def text(example: str | None, *, null: bool = False, help_text: str | None = None) -> serializers.CharField:
    return serializers.CharField(allow_null=null, allow_blank=True, help_text=help_text, initial=example)


def identity(example: str | None = AN_ID, *, null: bool = False) -> serializers.UUIDField:
    return serializers.UUIDField(allow_null=null, initial=cast("Any", example))


def instant(
    example: str | None = A_TIME, *, null: bool = False, help_text: str | None = None
) -> serializers.DateTimeField:
    return serializers.DateTimeField(allow_null=null, help_text=help_text, initial=cast("Any", example))


def day(example: str) -> serializers.DateField:
    return serializers.DateField(initial=cast("Any", example))


def whole(example: int | None, *, null: bool = False, help_text: str | None = None) -> serializers.IntegerField:
    return serializers.IntegerField(allow_null=null, help_text=help_text, initial=example)


def number(example: float | None, *, null: bool = False) -> serializers.FloatField:
    return serializers.FloatField(allow_null=null, initial=example)


def flag(example: bool) -> serializers.BooleanField:
    return serializers.BooleanField(initial=example)


def word(words: Sequence[str], example: str | None = None, *, null: bool = False) -> serializers.ChoiceField:
    """One of a closed list of words."""
    chosen = example if example or null else words[0]
    return serializers.ChoiceField([str(one) for one in words], allow_null=null, initial=chosen)


def texts(*example: str) -> serializers.ListField:
    return serializers.ListField(child=serializers.CharField(), initial=list(example))


def identities(*example: str) -> serializers.ListField:
    return serializers.ListField(child=serializers.UUIDField(), initial=list(example))


def wholes(*example: int) -> serializers.ListField:
    return serializers.ListField(child=serializers.IntegerField(), initial=list(example))


def anything(example: dict[str, Any] | None, *, null: bool = False) -> serializers.DictField:
    """An object whose fields depend on what it tells of."""
    return serializers.DictField(allow_null=null, initial=example)
