"""What texts amount to, remembered."""

from collections.abc import Callable
from typing import TypeVar

__all__ = ["Remembered"]

_Made = TypeVar("_Made")


class Remembered(dict[str, _Made]):
    """What ``make`` makes of a text, by the text; never of more than ``most``.

    Raises what ``make`` raises, of which nothing is remembered.  All threads share it.  Of these only
    single operations are used, each atomic, and each entry is right for ever.
    """

    def __init__(self, make: Callable[[str], _Made], most: int) -> None:
        super().__init__()
        self._make = make
        self._most = most

    def __missing__(self, text: str) -> _Made:
        made = self._make(text)
        if len(self) >= self._most:
            self.clear()
        self[text] = made
        return made
