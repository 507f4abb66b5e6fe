"""Django on hangup, in one file: ``hangup serve django_app:application``.

In a project of your own it is ``hangup serve mysite.wsgi:application``.
"""

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

import hangup


def hello(request):
    return HttpResponse("Hello, world!")


def stream(request):
    def lines():
        for number in range(10):
            yield f"{number}\n"
            hangup.sleep(0.1)  # raises when the client leaves

    return StreamingHttpResponse(lines(), content_type="text/plain")


@csrf_exempt
def upload(request):
    size = 0
    while piece := request.read(65536):
        size += len(piece)
    return JsonResponse({"size": size})


def work(request):
    client = request.META["hangup.client"]
    if client.wait(30):  # or 30 s of something useful, in steps
        raise hangup.ClientDisconnected
    return HttpResponse("done")


class ClientLeft:
    """Middleware: Django would log an error, and answer with a page that nobody reads."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)

    def process_exception(self, request, exception):
        if isinstance(exception, hangup.ClientDisconnected):
            return HttpResponse(status=204)


urlpatterns = [
    path("", hello),
    path("stream", stream),
    path("upload", upload),
    path("work", work),
]

if not settings.configured:
    settings.configure(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="an example's",
        MIDDLEWARE=[f"{__name__}.ClientLeft"],
    )
django.setup()
application = WSGIHandler()
