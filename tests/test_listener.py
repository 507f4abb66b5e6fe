"""When connections are accepted, and how many at once."""

import socket

import pytest

import hangup
from conftest import PATIENCE

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.mark.parametrize("waiting", [1, 40])
def test_all_that_have_connected_are_accepted_before_others_requests_are_served(waiting: int) -> None:
    """One for each turn of the others' requests, and the last of 40 waits for 40 turns."""
    server = hangup.WSGIServer(lambda _environ, _start: [], port=0)
    # Its event loop without its threads: this one takes what it finds.
    engine = server._new_engine()
    engine.listen(server.socket)
    loop = engine.loop
    address = ("127.0.0.1", server.port)
    clients = [socket.create_connection(address, PATIENCE) for _ in range(2)]
    found = set()
    try:
        for client in clients:
            client.sendall(REQUEST)
            connection = loop.next()
            assert connection is not None
            found.add(connection)
            loop.register(connection)
        # Both have parts of another request there: so the event loop is not alone with the listener.
        for client in clients:
            client.sendall(REQUEST[:10])
        for _ in range(waiting):
            client = socket.create_connection(address, PATIENCE)
            client.sendall(REQUEST)
            clients.append(client)
        for number in range(waiting):
            found.add(loop.next())
            assert loop.opened == 2 + waiting, f"at the {number}."
        assert len(found) == 2 + waiting
    finally:
        for connection in found:
            connection.closing.close()
        engine.close(wait=False)
        for client in clients:
            client.close()
        server.close()
