"""A Django project as ``django-admin startproject`` makes it, with a few views."""
