"""The answers for who has no framework: routes by hand, and HTML without a template.

Used by the bare WSGI application and by the ``http.server`` handler.
"""

import html
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from traffic_apps import answers

#: Status, Content-Type, more fields, and the body: bytes, or the file that has it.
Answer = tuple[int, str, list[tuple[str, str]], bytes | Path]
JSON, HTML = "application/json", "text/html; charset=utf-8"


def first(fields: Mapping[str, list[str]], name: str) -> str:
    return fields[name][0] if name in fields else ""


def found(data: dict[str, Any], more: list[tuple[str, str]] | None = None) -> Answer:
    return 200, JSON, more or [], json.dumps(data).encode()


def nothing() -> Answer:
    return 404, HTML, [], b"Not found"


def get(path: str, query: str, field: Callable[[str], str]) -> Answer:
    """Of a GET; ``field`` gives a field by its name, or an empty string."""
    _, kind, *rest = path.split("/")
    if kind == "api" and rest[0] == "items":
        asked = parse_qs(query)
        page = int(first(asked, "page"))
        return found(answers.item(int(rest[1]), first(asked, "q"), page, field("X-Request-ID")))
    if kind == "pages":
        return 200, HTML, [], page_of(answers.page(int(rest[0]), first(parse_qs(query), "from")))
    if kind == "static":
        return asset(rest[0], field("If-Modified-Since"))
    if kind == "feeds":
        number = int(rest[0])
        more = [("ETag", answers.etag(number))]
        if field("If-None-Match") == answers.etag(number):
            return 304, JSON, more, b""
        return found(answers.feed(number), more)
    return nothing()


def post(path: str, body: bytes) -> Answer:
    if path == "/api/orders":
        return found(answers.order(json.loads(body)))
    if path == "/contact":
        form = parse_qs(body.decode())
        names = ("name", "email", "message")
        return found(answers.contact(*(first(form, name) for name in names)))
    return nothing()


def asset(name: str, since: str) -> Answer:
    if name not in answers.ASSETS:
        return nothing()
    kind, more = answers.ASSETS[name][0], [("Last-Modified", answers.LAST_MODIFIED)]
    if since == answers.LAST_MODIFIED:
        return 304, kind, more, b""
    return 200, kind, more, answers.DATA / "static" / name


def page_of(values: dict[str, Any]) -> bytes:
    items = "".join(
        f'<li><a href="{each["href"]}">{html.escape(each["title"])}</a></li>\n'
        for each in values["items"]
    )
    return (
        f"<!doctype html>\n<title>Page {values['number']}</title>\n<h1>Page {values['number']}</h1>\n"
        f"<p>From {html.escape(values['source'])}</p>\n<ul>\n{items}</ul>\n"
    ).encode()
