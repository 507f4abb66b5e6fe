"""What is asked for, by its use."""

from dataclasses import dataclass, field

__all__ = ["NEEDED", "Paths"]

#: What each path is for, and the option that names it; the plain one is the URL's own.
NEEDED = {
    "plain": "",
    "slow": "--slow-path",
    "large": "--large-path",
    "stream": "--stream-path",
    "upload": "--upload-path",
}


@dataclass(slots=True)
class Paths:
    """The target's paths, and what was found out about them before the first client left.

    ``work`` is how many seconds the slow one takes, and ``streaming`` the stream.  ``lengths`` is how
    many bytes of body they answer with, None for a stream that does not end.
    """

    named: dict[str, str]
    work: float = 0.0
    streaming: float = 0.0
    lengths: dict[str, int | None] = field(default_factory=dict)
    #: With the ready-made target: what marks the requests of the cell that is tried.
    mark: str = ""

    def has(self, use: str) -> bool:
        """Whether there is one for that use."""
        return use in self.named

    def of(self, use: str) -> str:
        """The path, with the mark."""
        path = self.named[use]
        if not self.mark:
            return path
        return f"{path}{'&' if '?' in path else '?'}probe={self.mark}"
