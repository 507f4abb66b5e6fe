"""Servers that are started from code: ``wsgi_serve.py KIND PORT THREADS MODULE:APP [SETTING=N …]``.

The standard library's and Werkzeug's log each request unless told otherwise, so they are.
"""

import importlib
import logging
import sys
from typing import Any

HOST = "127.0.0.1"


def wsgiref(app: Any, port: int, threads: int) -> None:
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    make_server(HOST, port, app, handler_class=Silent).serve_forever()


def werkzeug(app: Any, port: int, threads: int) -> None:
    from werkzeug.serving import run_simple

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    run_simple(HOST, port, app, threaded=True)


def waitress(app: Any, port: int, threads: int, **settings: int) -> None:
    from waitress import serve

    serve(app, host=HOST, port=port, threads=threads, **settings)


def cheroot(app: Any, port: int, threads: int, **settings: int) -> None:
    from cheroot.wsgi import Server

    # Its own backlog is 5, fewer than the connections: the kernel would drop them, and they'd try again
    # after a second. And it keeps 10, so that keep-alive would be measured for a third of them.
    server = Server((HOST, port), app, numthreads=threads, request_queue_size=1024, **settings)
    server.keep_alive_conn_limit = 1024
    server.start()


def bjoern(app: Any, port: int, threads: int) -> None:
    import bjoern as server

    server.run(app, HOST, port)


SERVERS = {each.__name__: each for each in (wsgiref, werkzeug, waitress, cheroot, bjoern)}

if __name__ == "__main__":
    kind, port, threads, application, *given = sys.argv[1:]
    module, _, name = application.partition(":")
    settings = {setting: int(number) for setting, _, number in (each.partition("=") for each in given)}
    SERVERS[kind](getattr(importlib.import_module(module), name), int(port), int(threads), **settings)
