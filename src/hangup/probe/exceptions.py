"""What can go wrong before anything can be found out."""

__all__ = ["ProbeError"]


class ProbeError(Exception):
    """The probe can't run; the text says why, and what to do, in one line."""
