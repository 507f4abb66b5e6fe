"""A slow PostgreSQL query that stops, in the database too, when its client leaves.

Needs psycopg 3.  The usual variables (PGHOST, PGUSER, …) say where the database is.
"""

import json

import psycopg

import hangup

SLOW = "SELECT pg_sleep(60)::text"


class Handler(hangup.BaseHTTPRequestHandler):
    def do_GET(self):
        with psycopg.connect("") as connection, hangup.cancels(connection):
            rows = connection.execute(SLOW).fetchall()
        body = json.dumps(rows).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    hangup.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
