import sys

from bottle import request, route, run

VERSION = "one"
uploads: list[int] = []


@route("/")
def page():
    return f"a page, version {VERSION}"


@route("/echo", method="POST")
def echo():
    uploads.append(1)
    return request.body.read()


@route("/form", method="POST")
def form():
    files = {name: len(each.file.read()) for name, each in request.files.items()}
    return {"fields": dict(request.forms), "files": files}


@route("/count")
def count():
    return str(len(uploads))


@route("/stream")
def stream():
    for number in range(1000):
        yield f"line {number}\n"


@route("/fails")
def fails():
    raise ValueError("on purpose")


run(host="127.0.0.1", port=int(sys.argv[1]), reloader="--reload" in sys.argv, server="wsgiref")
