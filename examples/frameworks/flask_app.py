"""Flask on hangup: ``hangup serve flask_app:app``."""

import threading

from flask import Flask, Response, request

import hangup

app = Flask(__name__)


@app.get("/")
def hello():
    return "Hello, world!"


@app.get("/stream")
def stream():
    def lines():
        try:
            for number in range(10):
                yield f"{number}\n"
                hangup.sleep(0.1)  # raises when the client leaves
        finally:
            app.logger.info("the stream has ended")  # whether the client stayed or left

    return Response(lines(), mimetype="text/plain")


@app.post("/upload")
def upload():
    size = 0
    while piece := request.stream.read(65536):  # as it comes: memory does not grow with it
        size += len(piece)
    return {"size": size}


@app.get("/work")
def work():
    job = Job()
    client = request.environ["hangup.client"]
    with client.on_disconnect(job.cancel):  # for as long as the block runs
        job.run()
    client.raise_if_disconnected()
    return "done"


@app.errorhandler(hangup.ClientDisconnected)
def client_left(error):
    return "", 499  # nobody reads it; but Flask would log an error


class Job:
    """Stands for anything that another thread can stop."""

    def __init__(self):
        self.stopped = threading.Event()

    def run(self):
        self.stopped.wait(30)

    def cancel(self):
        self.stopped.set()
