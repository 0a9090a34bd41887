"""What makes ledgers of tests quick to stop."""

import pytest

from enforcement import presence

pytest.register_assert_rewrite("tests.enforcement.machine")


@pytest.fixture(autouse=True)
def quick_presence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker notice within a moment that it is to end, or that its connection is gone."""
    monkeypatch.setattr(presence, "WAKE_SECONDS", 0.05)
    monkeypatch.setattr(presence, "RETRY_SECONDS", 0.05)
