"""Operators of tests have just shown that it is them."""

import pytest

from config import admin_site


@pytest.fixture(autouse=True)
def just_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a forced login cannot say of a session."""
    monkeypatch.setattr(admin_site, "step_up", lambda view: view)
