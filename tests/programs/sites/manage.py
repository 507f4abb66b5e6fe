"""A Django project in one file."""

import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    DEBUG=True,
    SECRET_KEY="not a secret",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.staticfiles"],
    STATIC_URL="/static/",
    STATICFILES_DIRS=[os.path.join(os.path.dirname(os.path.abspath(__file__)), "files")],
    WSGI_APPLICATION=None,
)
VERSION = "one"
uploads: list[int] = []


def page(request):
    return HttpResponse(f"a page, version {VERSION}")


def echo(request):
    uploads.append(1)
    return HttpResponse(request.body)


def form(request):
    files = {name: len(each.read()) for name, each in request.FILES.items()}
    return JsonResponse({"fields": request.POST.dict(), "files": files})


def count(request):
    return HttpResponse(str(len(uploads)))


def stream(request):
    return StreamingHttpResponse(f"line {number}\n" for number in range(1000))


def fails(request):
    raise ValueError("on purpose")


urlpatterns = [
    path("", page),
    path("echo", echo),
    path("form", form),
    path("count", count),
    path("stream", stream),
    path("fails", fails),
]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
