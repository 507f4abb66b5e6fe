import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server
from wsgiref.validate import validator

from counting import application


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


with make_server("127.0.0.1", int(sys.argv[1]), validator(application), server_class=Server) as server:
    server.serve_forever()
