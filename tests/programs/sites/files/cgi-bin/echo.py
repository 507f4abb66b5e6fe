#!/usr/bin/env python3
"""A CGI script: its method, its query, and the body that it was sent."""

import os
import sys

length = int(os.environ.get("CONTENT_LENGTH") or 0)
body = sys.stdin.read(length)
print("Content-Type: text/plain")
print()
print(os.environ["REQUEST_METHOD"], os.environ.get("QUERY_STRING", ""), body)
