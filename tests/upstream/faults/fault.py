"""What a fault is."""

from collections.abc import Awaitable, Callable

from tests.upstream.answer import Answer, Wire
from tests.upstream.request import Request

Fault = Callable[[Wire, Request, Answer], Awaitable[None]]
"""Starts from the honest answer to a request."""
