"""Files that frameworks send: what their ``read()`` gives is what is sent."""

from pathlib import Path
from typing import Any

import pytest

from test_frameworks import load
from test_sendfile import FILES, content


def flask_app(make: Any) -> Any:
    flask = pytest.importorskip("flask")
    app = flask.Flask(__name__)

    @app.route("/")
    def send() -> Any:
        return flask.send_file(make(), mimetype="text/plain")

    return app


def django_app(make: Any) -> Any:
    load("django_app")  # whose settings are the process's
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import FileResponse

    class Sends(WSGIHandler):
        def get_response(self, request: Any) -> Any:
            response = FileResponse(make())
            response._resource_closers.append(request.close)
            return response

    return Sends()


@pytest.mark.parametrize("framework", [flask_app, django_app])
@pytest.mark.parametrize(
    "kind",
    ["gzip", "BytesIO", "spooled on disk", "NamedTemporaryFile", "unflushed", "in the middle", "small"],
)
def test_frameworks_send_what_read_gives(
    serve_app: Any, tmp_path: Path, framework: Any, kind: str
) -> None:
    def make() -> Any:
        file = FILES[kind](tmp_path / "file")
        file.seek(0)  # Flask's and Django's own lengths are those of whole files.
        return file

    expected = content(make)
    serving = serve_app(framework(make))
    with serving.connect() as peer:
        for _ in range(2):
            response, body = peer.get("/").response()
            assert (response.status, body) == (200, expected)
