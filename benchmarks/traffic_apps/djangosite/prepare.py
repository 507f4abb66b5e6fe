"""``python -m traffic_apps.djangosite.prepare``: the database, with the sessions that requests have."""

import datetime as dt
import os

import django

#: As many as traffic.lua has.
SESSIONS = 1000


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "traffic_apps.djangosite.settings")
    django.setup()
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    ends = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
    store = SessionStore()
    Session.objects.bulk_create(
        Session(
            session_key=f"s{number:031}", session_data=store.encode({"visits": number}), expire_date=ends
        )
        for number in range(SESSIONS)
    )


if __name__ == "__main__":
    main()
