"""What a request's head costs: ``python benchmarks/heads.py``.

Parsing a head and making its environ, in µs, beside what httptools alone takes for the same bytes with
callbacks that keep what they are given.  No two heads are the same: paths, cookies and request ids
differ, as they do in real traffic.  The two take turns; medians of the rounds.  A microbenchmark: what
it means for a server is in ``traffic.md``.
"""

import statistics
import time
from collections.abc import Callable

import httptools

from hangup import Config
from hangup._http1.request_head import Heads
from hangup.wsgi.environ import environ_of

ROUNDS = 15
DIFFERENT = 2000
BASE = {
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8000",
    "SERVER_SOFTWARE": "hangup",
}
HEADS = {
    "Chromium's": """\
GET /articles/{0}/comments?page={0}&sort=date HTTP/1.1
Host: www.example.org:8000
Connection: keep-alive
sec-ch-ua: "Chromium";v="156", "Not)A;Brand";v="24"
sec-ch-ua-mobile: ?0
sec-ch-ua-platform: "Linux"
Upgrade-Insecure-Requests: 1
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0.0.0 Safari/537.36
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8
Sec-Fetch-Site: same-origin
Sec-Fetch-Mode: navigate
Sec-Fetch-User: ?1
Sec-Fetch-Dest: document
Referer: http://www.example.org:8000/articles/{0}
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-US,en;q=0.9
Cookie: sessionid=k3j4h5g6f7d8s9a0{0}; csrftoken=Zx9Yw8Vu7Ts6Rq5Po4{0}; theme=dark
""",
    "curl's": """\
GET /articles/{0} HTTP/1.1
Host: www.example.org:8000
User-Agent: curl/8.5.0
Accept: */*
""",
    "an API client's": """\
POST /api/v1/orders/{0} HTTP/1.1
Host: api.example.org
User-Agent: python-requests/2.32.3
Accept-Encoding: gzip, deflate
Accept: */*
Connection: keep-alive
Authorization: Bearer {1}{0}
X-Request-ID: 0b5c4c1e-8a52-4b0c-9f3e-{0:012}
Content-Type: application/json
Content-Length: 512
""",
}


class Kept:
    """httptools' callbacks: all that is in a head, and nothing made of it."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


def alone(head: bytes) -> None:
    httptools.HttpRequestParser(Kept()).feed_data(head)


def timed(work: Callable[[bytes], object], heads: list[bytes]) -> float:
    """µs for each."""
    began = time.perf_counter()
    for head in heads:
        work(head)
    return (time.perf_counter() - began) / len(heads) * 1e6


def main() -> None:
    parser = Heads(Config())

    def whole(head: bytes) -> None:
        environ_of(parser.parse(head), BASE)

    print(f"{'head':16} {'bytes':>6} {'httptools, µs':>14} {'hangup, µs':>11} {'ratio':>6}")
    for name, text in HEADS.items():
        token = "eyJhbGciOiJSUzI1NiIs" * 51
        heads = [
            (text.format(number, token) + "\n").replace("\n", "\r\n").encode()
            for number in range(100_000, 100_000 + DIFFERENT)
        ]
        rounds = [(timed(alone, heads), timed(whole, heads)) for _ in range(ROUNDS)]
        theirs, ours = (statistics.median(each) for each in zip(*rounds, strict=True))
        print(f"{name:16} {len(heads[0]):6} {theirs:14.2f} {ours:11.2f} {ours / theirs:6.2f}")


if __name__ == "__main__":
    main()
