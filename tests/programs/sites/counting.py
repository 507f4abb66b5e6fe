"""A small WSGI application, which counts the uploads that it has handled."""

VERSION = "one"
uploads: list[int] = []


def application(environ, start_response):
    """``POST /echo`` returns its body, ``/count`` how often that was called, anything else a page."""
    path, body, status = environ["PATH_INFO"], b"a page, version " + VERSION.encode(), "200 OK"
    if path == "/echo":
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        uploads.append(len(body))
    elif path == "/count":
        body = str(len(uploads)).encode()
    elif path != "/":
        status, body = "404 Not Found", b"there is no such page"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
