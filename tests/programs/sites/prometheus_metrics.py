import sys

from prometheus_client import REGISTRY, Counter, start_http_server

for collector in list(REGISTRY._collector_to_names):
    REGISTRY.unregister(collector)
Counter("requests", "Requests that a service had").inc(3)
server, thread = start_http_server(int(sys.argv[1]), "127.0.0.1")
thread.join()
