"""What programs have clients of their own for: each returns what the client saw, to be compared."""

import json
import os
import re
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

from exchanges import HOST, PATIENCE, Exchange, Site, ask, run

DATA = b"Some text, and what is none: \x00\xff\r\n" * 3000


def address(site: Site, path: str = "") -> str:
    return f"http://{HOST}:{site.port}{path}"


def form(site: Site, folder: Path, path: str = "/form") -> list[Any]:
    """A browser's form, with a file."""
    import requests

    files = {"file": ("name.bin", DATA)}
    response = requests.post(address(site, path), data={"field": "ä"}, files=files, timeout=PATIENCE)
    return [response.status_code, site.plain(response.text)]


def web_framework(site: Site, folder: Path) -> list[Any]:
    """A form, a stream, an error, and how many times the uploads before were handled."""
    return [
        form(site, folder),
        ask(site, Exchange(path="/stream")),
        (failed := ask(site, Exchange(path="/fails"))) and isinstance(failed, dict) and failed["status"],
        ask(site, Exchange(path="/count")),
    ]


def counted(site: Site, folder: Path) -> Any:
    return ask(site, Exchange(path="/count"))


def files(site: Site, folder: Path) -> list[Any]:
    """What a file server has to tell apart."""
    paths = [
        "/folder",
        "/folder/",
        "/folder/inner.txt?query",
        "/%66older/inner.txt",
        "/../manage.py",
        "//",
    ]
    found = [ask(site, Exchange(path=path)) for path in paths]
    newer = {"If-Modified-Since": "Wed, 01 Jan 2098 00:00:00 GMT"}
    found += [ask(site, Exchange(path="/letters.txt", fields=fields)) for fields in (newer, {})]
    return [*found, ask(site, Exchange(path="/large.bin"))]


def cgi(site: Site, folder: Path) -> list[Any]:
    script = "/cgi-bin/echo.py"
    return [
        ask(site, Exchange(path=f"{script}?a=b")),
        ask(site, Exchange("POST", f"{script}?c=d", {"Content-Type": "text/plain"}, b"a body")),
        ask(site, Exchange("POST", f"{script}?c=d", {"Content-Type": "text/plain"}, b"b" * 200_000)),
    ]


def upload_files(site: Site, folder: Path) -> list[Any]:
    """uploadserver: two files in one form; what lies in its folder then."""
    import requests

    many = [("files", ("one.bin", DATA)), ("files", ("two.txt", b"two"))]
    response = requests.post(address(site, "/upload"), files=many, timeout=PATIENCE)
    lie = {name: (folder / name).read_bytes() == data for _, (name, data) in many}
    return [response.status_code, lie, files(site, folder)]


def bucket(site: Site, folder: Path) -> list[Any]:
    """moto: objects in a bucket, by boto3."""
    import boto3

    s3 = boto3.client("s3", endpoint_url=address(site), region_name="us-east-1", **KEYS)
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="one", Body=DATA)
    s3.upload_file(str(folder / "large.bin"), "bucket", "large")
    parts = s3.get_object(Bucket="bucket", Key="one", Range="bytes=5-8")
    names = [each["Key"] for each in s3.list_objects_v2(Bucket="bucket")["Contents"]]
    whole = s3.get_object(Bucket="bucket", Key="one")["Body"].read() == DATA
    return [names, whole, parts["Body"].read(), parts["ResponseMetadata"]["HTTPStatusCode"]]


KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


def git(site: Site, folder: Path) -> list[Any]:
    """klaus: a clone over HTTP, a push, and its pages."""
    me = ["-c", "user.name=A", "-c", "user.email=a@example.invalid"]
    there = {"cwd": str(folder / "clone")}
    found: list[Any] = [
        run("git", "clone", "-q", address(site, "/repository"), "clone", cwd=str(folder))
    ]
    (folder / "clone" / "more.txt").write_bytes(os.urandom(3_000_000))
    commands = (["add", "."], [*me, "commit", "-qm", "more"], ["push", "-q", "origin", "HEAD"])
    found += [run("git", *command, **there)[0] for command in commands]
    pages = ["/repository/", "/repository/tree/main/", "/repository/blob/main/letters.txt"]
    found += [
        each["status"] for path in pages if isinstance(each := ask(site, Exchange(path=path)), dict)
    ]
    return found


def mercurial(site: Site, folder: Path) -> list[Any]:
    """hg clone, a push, a pull, and pages."""
    hg = str(Path(os.sys.executable).with_name("hg"))
    plain = {"HGPLAIN": "1", "HGRCPATH": ""}
    clone = str(folder / "clone")
    found: list[Any] = [run(hg, "clone", "-q", address(site), clone, env=plain)]
    (folder / "clone" / "more.bin").write_bytes(bytes(range(256)) * 8000)
    for command in (["add", "-q"], ["commit", "-qm", "more", "-u", "A"], ["push", "-q"], ["pull"]):
        status, text = run(hg, *command, cwd=clone, env=plain)
        found.append([status, site.plain(re.sub(r"[0-9a-f]{12}", "…", text))])
    for path in ("/", "/log", "/file/tip", "/raw-file/tip/letters.txt", "/no-such"):
        each = ask(site, Exchange(path=path))
        found.append(each["status"] if isinstance(each, dict) else each)
    return found


EVENT = (
    b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//A//B//EN\r\nBEGIN:VEVENT\r\nUID:one\r\n"
    b"DTSTAMP:20260102T030405Z\r\nDTSTART:20260102T030405Z\r\nSUMMARY:An event\r\n"
    b"END:VEVENT\r\nEND:VCALENDAR\r\n"
)
QUERY = (
    b'<?xml version="1.0"?><c:calendar-query xmlns:d="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav">'
    b"<d:prop><d:getetag/><c:calendar-data/></d:prop>"
    b'<c:filter><c:comp-filter name="VCALENDAR"/></c:filter></c:calendar-query>'
)


def calendar(site: Site, folder: Path) -> list[Any]:
    """radicale: a calendar is made, an event put, found, and removed."""
    import requests

    found: list[Any] = []
    with requests.Session() as session:
        session.auth = ("user", "")
        for method, path, body in (
            ("MKCALENDAR", "/user/calendar/", b""),
            ("PUT", "/user/calendar/one.ics", EVENT),
            ("REPORT", "/user/calendar/", QUERY),
            ("PROPFIND", "/user/", b""),
            ("GET", "/user/calendar/one.ics", None),
            ("DELETE", "/user/calendar/one.ics", None),
            ("GET", "/user/calendar/one.ics", None),
        ):
            fields = {
                "Depth": "1",
                "Content-Type": "text/xml" if method == "REPORT" else "text/calendar",
            }
            url = address(site, path)
            response = session.request(method, url, data=body, headers=fields, timeout=PATIENCE)
            found.append([method, response.status_code, site.plain(response.text)])
    return found


def xml_rpc(site: Site, folder: Path) -> list[Any]:
    """Calls on one connection, several in one request, one with a large argument, and a fault."""
    with xmlrpc.client.ServerProxy(address(site, "/RPC2"), allow_none=True) as proxy:
        found: list[Any] = [proxy.pow(2, number) for number in range(5)]
        found += [proxy.system.listMethods(), proxy.echo(xmlrpc.client.Binary(DATA)).data == DATA]
        several = xmlrpc.client.MultiCall(proxy)
        several.pow(2, 3)
        several.pow(5, 2)
        found.append(list(several()))
        try:
            proxy.fails()
        except xmlrpc.client.Fault as fault:
            found.append([fault.faultCode, fault.faultString])
    return found


def json_rpc(site: Site, folder: Path) -> list[Any]:
    import jsonrpclib

    proxy = jsonrpclib.ServerProxy(address(site))
    found: list[Any] = [proxy.pow(2, number) for number in range(5)]
    found.append(proxy.echo("ä" * 100_000) == "ä" * 100_000)
    batch = jsonrpclib.MultiCall(proxy)
    batch.pow(2, 3)
    batch.pow(5, 2)
    found.append(list(batch()))
    proxy._notify.pow(1, 1)
    try:
        proxy.fails()
    except jsonrpclib.ProtocolError as error:
        found.append(site.plain(str(error)))
    proxy("close")()
    return found


def packages(site: Site, folder: Path) -> list[Any]:
    """pypiserver: a package is uploaded as twine does it, listed, and fetched."""
    import requests

    fields = {":action": "file_upload", "protocol_version": "1", "name": "package", "version": "1"}
    content = {"content": ("package-1.tar.gz", DATA)}
    sent = requests.post(address(site, "/"), data=fields, files=content, timeout=PATIENCE)
    found: list[Any] = [sent.status_code, [ask(site, Exchange(path="/simple/package/"))]]
    got = requests.get(address(site, "/packages/package-1.tar.gz"), timeout=PATIENCE)
    return [*found, got.status_code, got.content == DATA]


def live_reload(site: Site, folder: Path) -> list[Any]:
    """mkdocs: the request by which its pages wait for a change; its response comes with the next one."""
    import requests

    epoch = re.search(r"livereload\((\d+),", requests.get(address(site), timeout=PATIENCE).text)
    page = folder / "docs" / "index.md"
    page.write_text(page.read_text() + "\nMore.\n")
    began = time.monotonic()
    waited = requests.get(address(site, f"/livereload/{epoch[1]}/0"), timeout=30) if epoch else None
    return [bool(epoch), waited and waited.status_code, time.monotonic() - began < 20]


def metrics(site: Site, folder: Path) -> list[Any]:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    fields = ({}, accept, {"Accept-Encoding": "gzip"})
    found = [ask(site, Exchange(path="/metrics", fields=each)) for each in fields]
    if isinstance(found[2], dict):
        found[2]["body"] = found[2]["fields"] = "compressed, with the time in it"
    return [*found, ask(site, Exchange(path="/metrics?name[]=requests_total"))]


def web_dav(site: Site, folder: Path) -> list[Any]:
    found: list[Any] = []
    for method, path, body in (
        ("OPTIONS", "/", None),
        ("MKCOL", "/made", b""),
        ("PUT", "/made/file", b"some text\n" * 9000),
        ("GET", "/made/file", None),
        ("DELETE", "/made", None),
        ("PROPFIND", "/made", b""),
    ):
        each = ask(site, Exchange(method, path, {}, body))
        found.append([method, each["status"] if isinstance(each, dict) else each])
    return found


def shown(value: Any) -> str:
    """A result as text that can be read."""
    return json.dumps(value, indent=1, default=repr, ensure_ascii=False)
