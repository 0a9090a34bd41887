"""Sessions that people end from elsewhere."""

from collections.abc import Sequence

from allauth.core import context
from allauth.usersessions.adapter import DefaultUserSessionsAdapter
from allauth.usersessions.models import UserSession

from accounts.audit_events import Action
from console.sign_in.traces import trace


class SessionsAdapter(DefaultUserSessionsAdapter):  # type: ignore[misc]  # allauth has no types
    """Ends sessions, and writes down that they were ended."""

    def end_sessions(self, sessions: Sequence[UserSession]) -> None:
        super().end_sessions(sessions)
        if sessions:
            trace(context.request, context.request.user, Action.PERSON_SESSIONS_ENDED, reason=f"{len(sessions)} ended")
