"""Where the client looks for a hub, and where a token never goes."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

import edgewise
from edgewise.client import Client, HubError, locate

SYSTEM = {
    "version": "0.1.0", "tenant": "main", "started_at": 1.0, "broker_connected": True, "devices": 2,
    "devices_online": 1, "windows": 3, "window_bytes": 4, "blob_bytes_sent": 5,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What ``edgewise hub up`` leaves."""
    (tmp_path / "hub.json").write_text('{"url": "http://127.0.0.1:8470", "pid": 12}')
    (tmp_path / "operator.token").write_text("ew_of_the_folder\n")
    return tmp_path


def test_arguments_come_before_the_environment_and_that_before_the_folder(folder: Path) -> None:
    environ = {"EDGEWISE_DATA": str(folder)}
    assert locate(environ=environ) == ("http://127.0.0.1:8470", "ew_of_the_folder")
    environ |= {"EDGEWISE_URL": "https://hub.example/", "EDGEWISE_TOKEN": "ew_of_the_environment"}
    assert locate(environ=environ) == ("https://hub.example", "ew_of_the_environment")
    assert locate("http://localhost:1", "ew_given", environ) == ("http://localhost:1", "ew_given")


def test_the_folder_in_the_working_folder_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "work").mkdir()
    folder.rename(folder.parent / ".edgewise")
    monkeypatch.chdir(folder.parent)
    assert locate(environ={}).token == "ew_of_the_folder"


def test_the_folders_token_goes_to_no_other_hub(folder: Path) -> None:
    with pytest.raises(HubError, match=r"no token known for https://elsewhere\.example") as caught:
        locate("https://elsewhere.example", environ={"EDGEWISE_DATA": str(folder)})
    assert caught.value.code == "no-token"
    assert locate("http://localhost:9", environ={"EDGEWISE_DATA": str(folder)}).token == "ew_of_the_folder"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://hub.example:8470", "https alone"),
        ("http://10.0.0.7", "https alone"),
        ("http://127.0.0.1.evil.example", "https alone"),
        ("http://me:secret@127.0.0.1:8470", "no user or password"),
        ("ftp://127.0.0.1", "expected such as"),
        ("127.0.0.1:8470", "expected such as"),
        ("https://hub.example/?token=secret", "expected such as"),
        ("http://127.0.0.1:99999999", "hub's URL"),
    ],
)
def test_a_url_that_no_token_may_go_to_is_refused(url: str, says: str) -> None:
    with pytest.raises(HubError, match=says) as caught:
        Client(url, "ew_token")
    assert caught.value.code == "bad-url"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "https://hub.example"])
def test_loopback_and_https_are_fine(url: str) -> None:
    with Client(url, "ew_token") as client:
        assert client.url == url


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "é"])
def test_a_token_that_cannot_be_one_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(HubError, match="printable ASCII") as caught:
        Client("http://127.0.0.1:1", token)
    assert not token or token not in str(caught.value)


def test_no_hub_known_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(HubError, match=r"EDGEWISE_URL or .*hub\.json; start one with 'edgewise hub up'") as caught:
        locate(environ={"EDGEWISE_DATA": str(tmp_path)})
    assert caught.value.code == "no-hub"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"url": 3}', b"\xff"])
def test_a_damaged_hub_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "hub.json").write_bytes(content)
    with pytest.raises(HubError, match=r"hub\.json: expected"):
        locate(environ={"EDGEWISE_DATA": str(tmp_path)})


def test_connect_asks_the_hub_and_shows_the_token(server: Any) -> None:
    server.answer = lambda asked: server.json(SYSTEM)
    with edgewise.connect(server.url, "ew_right") as client:
        assert client.system().devices == 2
    assert [(a.method, a.path) for a in server.asked] == [("GET", "/api/v1/system")] * 2
    assert {a.headers["Authorization"] for a in server.asked} == {"Bearer ew_right"}


def test_a_refused_token_says_what_to_do(server: Any) -> None:
    problem = {"title": "Unauthorized", "status": 401, "detail": "expected a bearer", "code": "unauthorized"}
    server.answer = lambda asked: server.json(problem, 401)
    with pytest.raises(HubError, match="refused the token; set EDGEWISE_TOKEN") as caught:
        edgewise.connect(server.url, "ew_wrong")
    assert (caught.value.code, caught.value.status) == ("unauthorized", 401)
    assert "ew_wrong" not in str(caught.value)


def test_no_hub_answers() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(HubError, match=r"no hub answers .*edgewise hub up") as caught:
            edgewise.connect(url, "ew_token")
    assert (caught.value.code, caught.value.status) == ("no-answer", None)


def test_a_proxy_of_the_environment_does_not_hear_the_token(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.answer = lambda asked: server.json(SYSTEM)
    with edgewise.connect(server.url, "ew_right") as client:
        assert client.url == server.url
