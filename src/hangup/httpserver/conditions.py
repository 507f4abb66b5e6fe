"""Conditional requests and ranges (RFC 9110 §13, §14), without I/O.

What a request's header fields say is looked at once, by :func:`conditions`; the two questions that are
then asked are :func:`precondition_status` and :func:`wanted_part`, in this order (§13.2.2).
"""

import email.utils
import os
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple

__all__ = [
    "Part",
    "Validators",
    "conditions",
    "parse_date",
    "precondition_status",
    "validators_of",
    "wanted_part",
]

# 40 digits hold every offset that clients are known to send, also 2**64 - 1 for "to the end"; int()
# takes them in no time.
_RANGE = re.compile(r"(\d{1,40})-(\d{0,40})|-(\d{1,40})", re.ASCII)
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_RFC_850_DATE = re.compile(r"([A-Za-z]+, \d\d-[A-Za-z]{3}-)(\d\d)( \d\d:\d\d:\d\d GMT)", re.ASCII)
_NAMES = frozenset(
    ("if-match", "if-unmodified-since", "if-none-match", "if-modified-since", "if-range", "range")
)
# Seconds for which a file that has just changed may change again without a trace in its time stamp
# (RFC 9110 §8.8.2.2 has one second, Apache httpd too).
_UNSETTLED = 1.0


class Part(NamedTuple):
    """Some of a file's bytes: where they start, and how many they are."""

    start: int
    length: int


class Validators(NamedTuple):
    """What tells one version of a representation from another (RFC 9110 §8.8)."""

    etag: str | None = None
    #: Seconds since the epoch.
    modified: int | None = None


def validators_of(status: os.stat_result) -> Validators:
    """A file's validators.

    The entity tag is made of its size and its time stamp, as nginx has it.  It is a weak one as long as
    the file could change once more without another time stamp (RFC 9110 §8.8.1).
    """
    weak = "W/" if time.time() - status.st_mtime < _UNSETTLED else ""
    return Validators(f'{weak}"{status.st_mtime_ns:x}-{status.st_size:x}"', int(status.st_mtime // 1))


def conditions(headers: Any) -> dict[str, str]:
    """The fields that make a request a conditional one, or one for a part; by their names in lower case.

    ``headers`` is an :class:`email.message.Message`.
    """
    present = _NAMES.intersection(map(str.lower, headers.keys()))
    return {name: ", ".join(map(str, headers.get_all(name))) for name in present}


def parse_date(text: str) -> int | None:
    """The seconds since the epoch of an HTTP date; None for what is none (RFC 9110 §5.6.7).

    All three formats are understood, and what else :mod:`email.utils` understands, if it is UTC.
    """
    if text.count(",") > 1:
        return None  # more than one
    match = _RFC_850_DATE.fullmatch(text.strip())
    if match:
        # Two digits of a year are of the century that puts it less than 50 years ahead.
        now = datetime.now(UTC).year
        year = now - now % 100 + int(match[2])
        text = f"{match[1]}{year - 100 if year > now + 50 else year}{match[3]}".replace("-", " ")
    try:
        date = email.utils.parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return int(date.timestamp()) if date.tzinfo is UTC else None
    except (TypeError, IndexError, OverflowError, ValueError):
        return None


def precondition_status(
    method: str, fields: Mapping[str, str], validators: Validators
) -> HTTPStatus | None:
    """304 or 412, where a precondition is false; None where the request is to be performed.

    The order is that of RFC 9110 §13.2.2.
    """
    modified = validators.modified
    reads = method in ("GET", "HEAD")
    if "if-match" in fields:
        if not _matches(fields["if-match"], validators.etag, strongly=True):
            return HTTPStatus.PRECONDITION_FAILED
    elif _seconds_after(fields.get("if-unmodified-since"), modified, otherwise=0) < 0:
        return HTTPStatus.PRECONDITION_FAILED
    if "if-none-match" in fields:
        if _matches(fields["if-none-match"], validators.etag, strongly=False):
            return HTTPStatus.NOT_MODIFIED if reads else HTTPStatus.PRECONDITION_FAILED
    elif reads and _seconds_after(fields.get("if-modified-since"), modified, otherwise=-1) >= 0:
        return HTTPStatus.NOT_MODIFIED
    return None


def _seconds_after(field: str | None, modified: int | None, *, otherwise: int) -> int:
    """How long after ``modified`` the date in a field is; ``otherwise`` if there are no such two."""
    if field is None or modified is None or (date := parse_date(field)) is None:
        return otherwise
    return date - modified


def _matches(field: str, etag: str | None, *, strongly: bool) -> bool:
    """Whether a list of entity tags has this one, or is ``*`` (RFC 9110 §8.8.3.2, §13.1)."""
    if field.strip(" \t") == "*":
        return True
    if etag is None:
        return False
    tags = _ENTITY_TAG.findall(field)
    if strongly:
        return not etag.startswith("W/") and etag in tags
    return etag.removeprefix("W/") in [tag.removeprefix("W/") for tag in tags]


def wanted_part(
    method: str, fields: Mapping[str, str], validators: Validators, size: int
) -> tuple[Part | None, bool]:
    """The part of ``size`` bytes that is asked for, and whether it is a part: 206 and not 200.

    (None, True) where what is asked for lies outside: 416.

    More than one range, something else than bytes and what is malformed is answered with the whole,
    which RFC 9110 §14.2 permits; so is another method than GET, another version than this (``If-Range``,
    §13.1.5), and any range of nothing, which no Content-Range can say.
    """
    whole = Part(0, size), False
    unit, _, ranges = fields.get("range", "").partition("=")
    if method != "GET" or unit.strip().lower() != "bytes" or not size:
        return whole
    wanted = [one for one in map(str.strip, ranges.split(",")) if one]
    match = _RANGE.fullmatch(wanted[0]) if len(wanted) == 1 else None
    if match is None or ("if-range" in fields and not _is_version(fields["if-range"], validators)):
        return whole
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(0, size - int(suffix)), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return whole  # not a range at all (§14.1.1)
    return (Part(start, end - start) if start < size else None), True


def _is_version(field: str, validators: Validators) -> bool:
    """``If-Range``: an entity tag, compared strongly, or the exact date (RFC 9110 §13.1.5)."""
    field = field.strip()
    if field.startswith(('"', "W/")):
        return _matches(field, validators.etag, strongly=True)
    return validators.modified is not None and parse_date(field) == validators.modified
