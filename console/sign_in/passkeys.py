"""What browsers send of passkeys, and what anybody sends in their place: what cannot be read is a wrong code."""

import struct
from typing import Any

from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn import forms as allauth
from django import forms

from accounts.form_fields import JsonField

# The readers of credentials take their parts for what they should be.
UNREADABLE = (AttributeError, AssertionError, LookupError, RecursionError, TypeError, ValueError, struct.error)


def _credential() -> JsonField:
    return JsonField(required=True, widget=forms.HiddenInput)


class _Proof(allauth.AuthenticateWebAuthnForm):  # type: ignore[misc]  # allauth has no types
    """A passkey that is shown."""

    credential = _credential()

    def clean_credential(self) -> Authenticator:
        try:
            return super().clean_credential()
        except UNREADABLE:
            raise get_adapter().validation_error("incorrect_code") from None


class AuthenticateForm(_Proof):
    """After a password."""


class LoginForm(_Proof, allauth.LoginWebAuthnForm):  # type: ignore[misc]
    """Instead of one."""


class ReauthenticateForm(_Proof, allauth.ReauthenticateWebAuthnForm):  # type: ignore[misc]
    """Before what matters."""


class AddForm(allauth.AddWebAuthnForm):  # type: ignore[misc]
    """A new passkey."""

    credential = _credential()

    def clean(self) -> dict[str, Any]:
        try:
            cleaned: dict[str, Any] = super().clean()
        except UNREADABLE:
            raise get_adapter().validation_error("incorrect_code") from None
        return cleaned
