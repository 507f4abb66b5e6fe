import sys
from socketserver import ThreadingMixIn
from xmlrpc.server import DocXMLRPCServer, SimpleXMLRPCServer


class Threading(ThreadingMixIn, SimpleXMLRPCServer):
    daemon_threads = True


def fails():
    """Raise an error."""
    raise ValueError("on purpose")


CLASSES = {"simple": SimpleXMLRPCServer, "threads": Threading, "doc": DocXMLRPCServer}
with CLASSES[sys.argv[2]](("127.0.0.1", int(sys.argv[1])), allow_none=True) as server:
    server.register_introspection_functions()
    server.register_multicall_functions()
    server.register_function(pow)
    server.register_function(fails)
    server.register_function(lambda data: data, "echo")
    server.serve_forever()
