import sys

from jsonrpclib.SimpleJSONRPCServer import PooledJSONRPCServer, SimpleJSONRPCServer


def fails():
    raise ValueError("on purpose")


cls = PooledJSONRPCServer if "pool" in sys.argv else SimpleJSONRPCServer
server = cls(("127.0.0.1", int(sys.argv[1])))
server.register_introspection_functions()
server.register_function(pow)
server.register_function(fails)
server.register_function(lambda data: data, "echo")
server.serve_forever()
