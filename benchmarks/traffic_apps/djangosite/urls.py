"""The paths, as ``answers.py`` has them, and the admin's, which every new project has."""

from django.contrib import admin
from django.urls import path
from django.views.static import serve

from traffic_apps import answers
from traffic_apps.djangosite import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/items/<int:number>/<slug:slug>", views.item),
    path("pages/<int:number>", views.page),
    path("static/<path:path>", serve, {"document_root": answers.DATA / "static"}),
    path("feeds/<int:number>", views.feed),
    path("api/orders", views.order),
    path("contact", views.contact),
]
