"""The built-in provider: both dialects, deterministic text and honest usage, without a key or money."""

from proxy.sandbox.door import sandbox

__all__ = ["sandbox"]
