"""A slow SQLite query that stops when its client leaves."""

import contextlib
import json
import sqlite3

import hangup

SLOW = """
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1e9)
    SELECT count(*) FROM numbers
"""


class Handler(hangup.BaseHTTPRequestHandler):
    def do_GET(self):
        with contextlib.closing(sqlite3.connect(":memory:")) as connection, hangup.cancels(connection):
            rows = connection.execute(SLOW).fetchall()
        body = json.dumps(rows).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    hangup.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
