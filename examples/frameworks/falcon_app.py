"""Falcon on hangup: ``hangup serve falcon_app:app``."""

import falcon

import hangup


class Hello:
    def on_get(self, request, response):
        response.text = "Hello, world!"


class Stream:
    def on_get(self, request, response):
        response.content_type = "text/plain"
        response.stream = self.lines()

    def lines(self):
        for number in range(10):
            yield f"{number}\n".encode()
            hangup.sleep(0.1)  # raises when the client leaves


class Upload:
    def on_post(self, request, response):
        size = 0
        while piece := request.env["wsgi.input"].read(65536):
            size += len(piece)
        response.media = {"size": size}


class Work:
    def on_get(self, request, response):
        if request.env["hangup.client"].wait(30):
            raise hangup.ClientDisconnected
        response.text = "done"


def pass_on(request, response, error, params):
    raise error  # Falcon would make a 500 of it


app = falcon.App()
app.add_error_handler(hangup.ClientDisconnected, pass_on)
app.add_route("/", Hello())
app.add_route("/stream", Stream())
app.add_route("/upload", Upload())
app.add_route("/work", Work())
