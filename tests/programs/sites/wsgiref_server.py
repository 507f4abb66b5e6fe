import sys
from wsgiref.simple_server import make_server

from counting import application

with make_server("127.0.0.1", int(sys.argv[1]), application) as server:
    server.serve_forever()
