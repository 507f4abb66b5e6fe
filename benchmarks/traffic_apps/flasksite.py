"""Flask: JSON views, a page from a template, a form, and its own static files."""

from typing import Any

from flask import Flask, Response, jsonify, render_template, request, session

from traffic_apps import answers

app = Flask(__name__, static_folder=str(answers.DATA / "static"))
app.secret_key = "of no secret"
#: wrk's session cookie is none of Flask's: its signature is checked, and the session is a new one.
app.config["SESSION_COOKIE_NAME"] = "sessionid"


@app.get("/api/items/<int:number>/<slug>")
def item(number: int, slug: str) -> Response:
    query, page = request.args["q"], int(request.args["page"])
    return jsonify(answers.item(number, query, page, request.headers["X-Request-ID"]))


@app.get("/pages/<int:number>")
def page(number: int) -> str:
    values: dict[str, Any] = answers.page(number, request.args["from"])
    return render_template("flask_page.html", visits=session.get("visits", 0), **values)


@app.get("/feeds/<int:number>")
def feed(number: int) -> Response:
    response = jsonify(answers.feed(number))
    response.set_etag(answers.etag(number).strip('"'))
    return response.make_conditional(request)


@app.post("/api/orders")
def order() -> Response:
    return jsonify(answers.order(request.get_json()))


@app.post("/contact")
def contact() -> Response:
    form = request.form
    return jsonify(answers.contact(form["name"], form["email"], form["message"]))
