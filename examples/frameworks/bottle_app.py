"""Bottle on hangup: ``hangup serve bottle_app:app``."""

from bottle import Bottle, request, response

import hangup

app = Bottle()
app.config["catchall"] = False  # hangup logs what an application raises


@app.get("/")
def hello():
    return "Hello, world!"


@app.get("/stream")
def stream():
    response.content_type = "text/plain"
    for number in range(10):
        yield f"{number}\n"
        hangup.sleep(0.1)  # raises when the client leaves


@app.post("/upload")
def upload():
    size = 0
    while piece := request.environ["wsgi.input"].read(65536):
        size += len(piece)
    return {"size": size}


@app.get("/work")
def work():
    hangup.sleep(30)
    return "done"
