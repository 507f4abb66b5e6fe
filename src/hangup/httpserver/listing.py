"""The page that lists a directory: as ``http.server`` of Python 3.15 has it, on each Python."""

import html
import os
import sys
import urllib.parse
from collections.abc import Iterable

__all__ = ["ENCODING", "listing"]

#: The page's, which is that of the names in it.
ENCODING = sys.getfilesystemencoding()

_PAGE = """\
<!DOCTYPE HTML>
<html lang="en">
<head>
<meta charset="{encoding}">
<style type="text/css">
:root {{
color-scheme: light dark;
}}
</style>
<title>{title}</title>
</head>
<body>
<h1>{title}</h1>
<hr>
<ul>
{items}
</ul>
<hr>
</body>
</html>

"""


def listing(directory: str, names: Iterable[str], url_path: str) -> bytes:
    """The page with links to all ``names`` in ``directory``, which is at ``url_path``."""
    title = f"Directory listing for {html.escape(_unquoted(url_path), quote=False)}"
    items = "\n".join(_item(directory, name) for name in sorted(names, key=str.lower))
    return _PAGE.format(encoding=ENCODING, title=title, items=items).encode(ENCODING, "surrogateescape")


def _item(directory: str, name: str) -> str:
    path = os.path.join(directory, name)
    link = shown = name
    if os.path.isdir(path):
        link = shown = name + "/"
    if os.path.islink(path):
        shown = name + "@"
    href = urllib.parse.quote(link, errors="surrogatepass")
    return f'<li><a href="{href}">{html.escape(shown, quote=False)}</a></li>'


def _unquoted(url_path: str) -> str:
    try:
        return urllib.parse.unquote(url_path, errors="surrogatepass")
    except UnicodeDecodeError:
        return urllib.parse.unquote(url_path)
