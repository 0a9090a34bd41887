"""How a change of an integration announces itself to the floors above, which it does not know."""

from django.dispatch import Signal

status_changed = Signal()
"""Sent with `integration` and its status `before` when somebody changes it, inside the transaction that does."""
