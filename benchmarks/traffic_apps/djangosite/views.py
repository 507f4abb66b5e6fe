"""The views."""

import json

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import etag

from traffic_apps import answers


def item(request: HttpRequest, number: int, slug: str) -> JsonResponse:
    query, page = request.GET["q"], int(request.GET["page"])
    return JsonResponse(answers.item(number, query, page, request.headers["X-Request-ID"]))


def page(request: HttpRequest, number: int) -> HttpResponse:
    values = answers.page(number, request.GET["from"])
    values["visits"] = request.session.get("visits", 0)
    return render(request, "django_page.html", values)


@etag(lambda request, number: answers.etag(number))
def feed(request: HttpRequest, number: int) -> JsonResponse:
    return JsonResponse(answers.feed(number))


def order(request: HttpRequest) -> JsonResponse:
    return JsonResponse(answers.order(json.loads(request.body)))


def contact(request: HttpRequest) -> JsonResponse:
    form = request.POST
    return JsonResponse(answers.contact(form["name"], form["email"], form["message"]))
