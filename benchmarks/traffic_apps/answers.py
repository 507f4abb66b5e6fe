"""What all the applications of ``traffic.py`` answer, so that they differ only in what makes it.

- ``GET /api/items/NUMBER/…``: JSON of the path, the query and the request's id;
- ``GET /pages/NUMBER``: HTML, from a template where there are templates, and with the session;
- ``GET /static/NAME``: a page's assets, from files, with ``Last-Modified``;
- ``GET /feeds/NUMBER``: JSON with an ETag of the number;
- ``POST /api/orders``: JSON; ``POST /contact``: a form;
- ``GET /hello``, ``/megabyte``, ``/stream``: for microbenchmarks, in the bare application alone.
"""

import os
from pathlib import Path
from typing import Any

#: Where the assets and Django's database are.
DATA = Path(os.environ.get("TRAFFIC_DATA", "/nonexistent"))
ASSETS = {
    "app.css": ("text/css", b".item { color: #223344; margin: 0 auto }\n" * 300),
    "app.js": ("text/javascript", b"export const item = (id) => document.getElementById(id);\n" * 700),
    "logo.png": ("image/png", bytes(range(256)) * 24),
}
#: When each was modified: 2026-01-01, in seconds since the epoch, and as a field's value.
MODIFIED = 1767225600
LAST_MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"

HELLO = b"Hello, world!"
MEGABYTE = b"x" * 1_000_000
CHUNK = b"x" * 1_000
CHUNKS = 100

Found = dict[str, Any]


def write_assets(directory: Path) -> None:
    directory.mkdir()
    for name, (_, content) in ASSETS.items():
        (directory / name).write_bytes(content)
        os.utime(directory / name, (MODIFIED, MODIFIED))


def item(number: int, query: str, page: int, request_id: str) -> Found:
    return {
        "id": number,
        "title": f"Item {number}",
        "query": query,
        "page": page,
        "tags": ["new", "blue", "large"],
        "price": {"amount": number % 10_000, "currency": "EUR"},
        "request": request_id,
    }


def feed(number: int) -> Found:
    entries = [{"id": number + each, "title": f"Entry {number + each}"} for each in range(10)]
    return {"feed": number, "entries": entries}


def etag(number: int) -> str:
    return f'"feed-{number}"'


def order(data: Found) -> Found:
    total = sum(each["quantity"] * each["price"] for each in data["lines"])
    return {"id": data["id"], "lines": len(data["lines"]), "total": total}


def page(number: int, source: str) -> Found:
    """What the template is filled with."""
    items = [
        {"href": f"/pages/{number + each}", "title": f"Item <{number + each}>"} for each in range(20)
    ]
    return {"number": number, "source": source, "items": items}


def contact(name: str, email: str, message: str) -> Found:
    return {"name": name, "email": email, "message": message}
