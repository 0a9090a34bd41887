"""The story that a newcomer sees: a first call, then the promise under fire."""
