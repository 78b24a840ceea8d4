"""The page behind a proxy: a prefix, another name, HEAD; and with a real one, as documented."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient

from retrieval.data.formats import InputError
from retrieval.web.app import create_app
from retrieval.web.image_database import ImageDatabase
from retrieval.web.middleware.proxies import checked_prefix
from tests.pages import Page
from tests.stages.test_stages import ROOT
from tests.web.conftest import PAGE, drawn_photo, running

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
OPENSSL = shutil.which("openssl")
NAME = "cars.example.com"
STEPS = 3  # addresses of each kind to follow


def follow_all(client: Any, prefix: str) -> set[str]:
    """Follow every link, form, picture, script and style from the start page on.

    Returns:
        The addresses that were loaded, with ``#`` for numbers and keys.
    """
    files = {"photo": drawn_photo()}
    upload = client.post(f"{prefix}/search", files=files, headers=PAGE, follow_redirects=False)
    assert upload.status_code == 303
    waiting, seen, kinds = [f"{prefix}/", upload.headers["location"]], set(), dict[str, int]()
    while waiting:
        address = unescape(waiting.pop())
        assert address.startswith(f"{prefix}/"), address
        kind = re.sub(r"=[^&]*|(?<=/photos)/[\w-]+|/\d+", "#", address.split("#")[0])
        kinds[kind] = kinds.get(kind, 0) + 1
        if address in seen or kinds[kind] > STEPS:
            continue
        seen.add(address)
        answer = client.get(address, headers=PAGE)
        bare_form = address == f"{prefix}/search"  # the action of a form, without its photo
        assert answer.status_code == (404 if bare_form else 200), (address, answer.text[:300])
        if "text/html" in answer.headers["content-type"]:
            waiting += [link for link in Page(answer.text).links if not link.startswith("#")]
    return {kind.removeprefix(prefix) for kind in kinds}


KINDS = {"/", "/browse", "/search", "/search?id#", "/search?photo#", "/images#", "/photos#"}
KINDS |= {"/static/style.css", "/static/search.js", "/openapi.json", "/browse?model#"}


@pytest.fixture(scope="module")
def prefixed(database: ImageDatabase) -> Iterator[TestClient]:
    with TestClient(create_app(database, root_path="/cars")) as client:
        yield client


def test_every_address_works_below_a_prefix(client: TestClient, prefixed: TestClient) -> None:
    assert follow_all(client, "") >= KINDS
    assert follow_all(prefixed, "/cars") >= KINDS


def test_addresses_without_the_prefix_work_too(prefixed: TestClient) -> None:
    """A proxy may cut it off."""
    for path in ("/", "/search?id=3", "/images/3", "/static/style.css", "/api/images/3"):
        short, long = prefixed.get(path, headers=PAGE), prefixed.get(f"/cars{path}", headers=PAGE)
        assert short.status_code == long.status_code == 200
        assert re.sub(r"in \d+ ms", "", short.text) == re.sub(r"in \d+ ms", "", long.text)
    assert prefixed.get("/cars").status_code == 200
    assert prefixed.get("/carsick").status_code == prefixed.get("/cars/cars/").status_code == 404
    assert prefixed.get("/api/images/3").json()["photo"] == "/cars/images/3"
    found = prefixed.get("/cars/api/search?id=3").json()["answers"]
    assert {answer["photo"] for answer in found} == {f"/cars/images/{a['id']}" for a in found}
    for address in ("/nothing", "/cars/static/nothing", "/cars/deeper/nothing"):
        page = prefixed.get(address, headers=PAGE)
        assert page.status_code == 404 and 'href="/cars/"' in page.text
        assert 'href="/cars/static/style.css"' in page.text
    assert prefixed.get("/openapi.json").json()["servers"] == [{"url": "/cars"}]


def test_another_name_is_refused_with_what_to_do(database: ImageDatabase) -> None:
    app = create_app(database, allowed_hosts=["localhost", "127.0.0.1", "[::1]", NAME])
    with TestClient(app) as client:
        for host in ("localhost", "LocalHost:8000", "[::1]:8000", "cars.example.com.", f"{NAME}:1"):
            assert client.get("/healthz", headers={"host": host}).status_code == 200
        said = client.get("/api/images/1", headers={"host": "other.example:80"})
        assert said.status_code == 400 and "--allow_host other.example" in said.json()["error"]
        page = client.get("/", headers={"host": "other.example", **PAGE})
        assert page.status_code == 400 and "--allow_host other.example" in Page(page.text).text
        style = client.get("/static/style.css", headers={"host": "other.example"})
        assert style.status_code == 200  # of that page
        for host in ("", "::", "[::1", '"><script>', "localhost@evil.example", "x" * 9000):
            odd = client.get("/", headers={"host": host, **PAGE})
            assert odd.status_code == 400 and "<script>" not in odd.text


def test_a_prefix_is_no_page_of_the_server(client: TestClient) -> None:
    own = {address.split("/")[1].split("?")[0] for address in (*ADDRESSES, *GETS)}
    own |= {address.split("/")[1] for address in client.get("/openapi.json").json()["paths"]}
    for page in own - {"", "nothing"}:
        with pytest.raises(InputError):
            checked_prefix(f"/{page}/x")


ADDRESSES = ["/", "/browse", "/search?id=1", "/search", "/nothing", "/static/search.js"]
ADDRESSES += ["/images/1", "/api/images/1", "/api/search?id=1&box=1", "/healthz", "/metrics"]


def test_head_is_the_head_of_get(client: TestClient) -> None:
    for address in ADDRESSES:
        head, get = client.head(address, headers=PAGE), client.get(address, headers=PAGE)
        assert (head.status_code, head.content) == (get.status_code, b"")
        lengths = [int(answer.headers["content-length"]) for answer in (head, get)]
        assert abs(lengths[0] - lengths[1]) < 300  # what a page says of time, and counts
        assert head.headers["content-type"] == get.headers["content-type"]


GETS = ["/", "/search?id=1", "/browse", "/why?id=1&answer=2", "/images/1", "/photos/x"]
GETS += ["/explanation?id=1&answer=2&side=photo", "/api/images/1", "/api/search?id=1"]


@pytest.mark.parametrize("address", GETS)
def test_parameters_are_known_and_given_once(client: TestClient, address: str) -> None:
    _, mark, own = address.partition("?")
    for more in ["colour=red", *own.split("&")] if own else ["colour=red"]:
        said = client.get(f"{address}{'&' if mark else '?'}{more}")
        assert said.status_code == 422 and more.split("=")[0] in said.json()["error"]
    page = client.get(f"{address}{'&' if mark else '?'}colour=red", headers=PAGE)
    assert page.status_code == 422 and "colour: there is no such parameter" in page.text


def test_a_filter_with_a_typing_error_is_never_left_out(client: TestClient) -> None:
    photo = {"photo": drawn_photo()}
    near = client.get("/api/search?id=1&yeer=2010").json()["error"]
    assert near == "yeer: there is no such parameter; did you mean year?"
    assert client.post("/api/search?Year=2010", files=photo).status_code == 422
    in_form = client.post("/api/search", files=photo, data={"year": "2010"})
    assert in_form.status_code == 422 and "?year=" in in_form.json()["error"]
    for wrong in ({"yeer": "2010"}, {"year": ["2010", "2011"]}):
        assert client.post("/search", files=photo, data=wrong).status_code == 422
    assert client.post("/search?year=2010", files=photo).status_code == 422
    two = [("photo", photo["photo"]), ("photo", photo["photo"])]
    assert client.post("/api/search", files=two).status_code == 422


def documented_proxy(folder: Path, port: int, backend: int) -> str:
    """Return the proxy's part of docs/serving.md with other ports and files."""
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```nginx\n(.*?)```", text, re.DOTALL)
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "127.0.0.1:8000": f"127.0.0.1:{backend}",
        "/etc/nginx/": f"{folder}/",
    }
    for documented, here in changes.items():
        assert documented in block
        block = block.replace(documented, here)
    return block


@pytest.mark.skipif(not (NGINX and OPENSSL), reason="nginx or openssl is not installed")
def test_behind_nginx_as_documented(database: ImageDatabase, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = create_app(database, allowed_hosts=["127.0.0.1", NAME], root_path="/cars")
    certificate = ["-subj", f"/CN={NAME}", "-keyout", "cars.key", "-out", "cars.pem"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command = ["openssl", "req", "-x509", *kind, *certificate]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "cars.htpasswd").write_text("me:{PLAIN}secret\n")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {tmp_path};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    with running(app) as backend:
        site = documented_proxy(tmp_path, port, backend)
        (tmp_path / "nginx.conf").write_text(
            f"{user} daemon off; master_process off; pid {tmp_path}/pid; events {{}}\n"
            f"http {{ access_log off; {folders}\n{site} }}"
        )
        log = str(tmp_path / "error.log")
        proxy = subprocess.Popen([str(NGINX), "-e", log, "-c", str(tmp_path / "nginx.conf")])
        try:
            check_behind_proxy(f"https://127.0.0.1:{port}", proxy)
        finally:
            proxy.terminate()
            proxy.wait(10)


def check_behind_proxy(address: str, proxy: subprocess.Popen) -> None:
    with httpx2.Client(
        base_url=address, verify=False, headers={"host": NAME}, timeout=30
    ) as client:
        while True:
            try:
                assert client.get("/cars/").status_code == 401
                break
            except httpx2.ConnectError:
                assert proxy.poll() is None
                time.sleep(0.05)
        client.auth = ("me", "secret")
        assert follow_all(client, "/cars") >= KINDS
        photo = {"photo": drawn_photo("BMP", (2000, 1000))}  # above nginx's own limit of 1 MB
        leads_to = client.post("/cars/search", files=photo, headers=PAGE, follow_redirects=True)
        assert leads_to.status_code == 200 and urlsplit(str(leads_to.url)).path == "/cars/search"
        head = client.head("/cars/images/3")
        assert head.status_code == 200 and int(head.headers["content-length"]) > 0
        refused = client.get("/cars/healthz", headers={"host": "other.example"})
        assert refused.status_code == 400 and "--allow_host" in refused.json()["error"]
