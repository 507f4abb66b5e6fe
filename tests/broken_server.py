"""A tiny HTTP server, calm when clients leave, or with one fault: ``broken_server.py FAULT PORT``.

With port 0 it takes any, and says which.  There is a thread for each connection.  The faults are:
descriptor, thread (one is lost at each departure), wedge (behind a reset nobody is accepted any more),
crash (behind a reset it exits), spam (20 lines for each departure), traceback, unserved (a client that
half-closes is left alone), and none.
"""

import os
import socket
import socketserver
import sys
import threading
import traceback
from typing import Any

LARGE = bytes(16 << 20)
WORK, EACH = 0.25, 0.02
pause = threading.Event().wait
stuck = threading.Event()
kept: list[int] = []


def left(connection: socket.socket, error: Exception) -> None:
    """What a server with this fault does when a client has left."""
    reset = isinstance(error, ConnectionResetError)
    if FAULT == "descriptor":
        kept.append(os.open(os.devnull, os.O_RDONLY))
    elif FAULT == "thread":
        threading.Thread(target=pause, daemon=True).start()
    elif FAULT == "wedge" and reset:
        stuck.set()
    elif FAULT == "crash" and reset:
        os._exit(3)
    elif FAULT == "spam":
        print("\n".join(["a client has left, and nobody knows why"] * 20), file=sys.stderr)
    elif FAULT == "traceback":
        traceback.print_exception(error)


class Left(ConnectionError):
    """The client has closed."""


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        try:
            while self.answer():
                pass
        except OSError as error:
            left(self.connection, error)

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            pass

    def answer(self) -> bool:
        line = self.read_line()
        fields = {}
        while field := self.read_line():
            name, _, value = field.partition(":")
            fields[name.lower()] = value.strip()
        length = int(fields.get("content-length", 0))
        if len(self.rfile.read(length)) < length:
            raise Left
        path = line.split(" ")[1]
        if path == "/slow":
            pause(WORK)
        if FAULT == "unserved" and self.has_closed():
            raise Left
        if path == "/stream":
            self.stream()
            return False
        body = LARGE if path == "/large" else b"hello"
        status = "404 Not Found" if path == "/none" else "200 OK"
        self.wfile.write(
            b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(body)) + body
        )
        return fields.get("connection") != "close"

    def stream(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for _ in range(20):
            self.wfile.write(b"x" * 10_000)
            pause(EACH)

    def read_line(self) -> str:
        line = self.rfile.readline()
        if not line.endswith(b"\n"):
            raise Left
        return line.decode().rstrip("\r\n")

    def has_closed(self) -> bool:
        self.connection.setblocking(False)
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        finally:
            self.connection.setblocking(True)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def process_request(self, request: Any, client_address: Any) -> None:
        if stuck.is_set():
            pause()
        super().process_request(request, client_address)


if __name__ == "__main__":
    FAULT = sys.argv[1]
    with Server(("127.0.0.1", int(sys.argv[2])), Handler) as server:
        if sys.argv[2] == "0":
            print(server.server_address[1], flush=True)
        server.serve_forever()
