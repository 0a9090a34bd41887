"""Fields of forms for people."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput

from accounts.json_values import why_unstorable


class JsonField(forms.JSONField):
    """JSON that can be stored; whatever else was typed or forged is an error of this field."""

    def to_python(self, value: Any) -> Any:
        """What was sent. Raises `ValidationError`."""
        try:
            read = super().to_python(value)
        except (RecursionError, ValueError):
            # Too deep, or a number of thousands of digits.
            raise ValidationError(self.error_messages["invalid"], code="invalid", params={"value": ""}) from None
        if why := why_unstorable(read):
            raise ValidationError(why, code="invalid")
        return read

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What is shown again of what was sent."""
        try:
            return super().bound_data(data, initial)
        except (RecursionError, ValueError):
            return InvalidJSONInput(data)
