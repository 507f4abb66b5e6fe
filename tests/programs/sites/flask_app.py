from flask import Flask, Response, request

app = Flask(__name__)
VERSION = "one"
uploads: list[int] = []


@app.get("/")
def page():
    return f"a page, version {VERSION}"


@app.post("/echo")
def echo():
    uploads.append(1)
    return request.get_data()


@app.post("/form")
def form():
    return {
        "fields": request.form.to_dict(),
        "files": {k: len(f.read()) for k, f in request.files.items()},
    }


@app.get("/count")
def count():
    return str(len(uploads))


@app.get("/stream")
def stream():
    return Response((f"line {number}\n" for number in range(1000)), mimetype="text/plain")


@app.get("/fails")
def fails():
    raise ValueError("on purpose")
