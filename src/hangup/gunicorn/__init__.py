"""gunicorn's worker class: ``gunicorn -k hangup.gunicorn.Worker``."""

from .worker import Worker

__all__ = ["Worker"]
