"""Who gets in: bearer tokens, one-time codes, sessions with CSRF, and whom the guard turns away before."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from edgewise_hub.api import auth
from edgewise_hub.api.app import openapi
from edgewise_hub.api.errors import ApiError
from edgewise_hub.api.guard import MAX_BODY, own_hosts
from edgewise_hub.hub import Hub


def code_of(response: object) -> str:
    """The problem's code, and that it is a problem at all."""
    assert response.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    return str(response.json()["code"])  # type: ignore[attr-defined]


def test_every_address_but_the_public_ones_asks_for_a_token(anonymous: TestClient) -> None:
    public = {("/api/v1/enroll", "post"), ("/api/v1/session", "post")}
    asked = 0
    for path, methods in openapi()["paths"].items():
        for method in methods:
            if (path, method) in public:
                continue
            filled = path.replace("{sha256}", "0" * 64).replace("{digest}", "0" * 64).replace("{version}", "1")
            response = anonymous.request(method, filled)
            assert response.status_code == 401, (method, path)
            asked += 1
    assert asked > 15


def test_a_wrong_token_is_refused_and_says_what_was_expected(anonymous: TestClient) -> None:
    response = anonymous.get("/api/v1/system", headers={"Authorization": "Bearer ew_wrong"})
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert code_of(response) == "unauthorized"
    assert "ew_wrong" not in response.text


def test_a_token_opens_and_only_its_hash_is_kept(hub: Hub, api: TestClient, token: str) -> None:
    assert api.get("/api/v1/system").json()["devices"] == 0
    with hub.database.read() as session:
        kept = session.connection().exec_driver_sql("SELECT sha256 FROM api_tokens").scalar_one()
    assert kept == auth.sha256(token) != token


def test_a_code_signs_in_once_and_the_session_needs_its_csrf_token(api: TestClient, anonymous: TestClient) -> None:
    code = api.post("/api/v1/sign-in-codes").json()["code"]
    typed = f" {code[:4].lower()}-{code[4:]}"
    response = anonymous.post("/api/v1/session", json={"code": typed})
    assert response.status_code == 200
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
    csrf = response.json()["csrf"]

    assert anonymous.get("/api/v1/system").status_code == 200
    assert anonymous.get("/api/v1/session").json()["csrf"] == csrf
    refused = anonymous.post("/api/v1/join-tokens", json={})
    assert (refused.status_code, code_of(refused)) == (403, "bad-csrf")
    wrong = anonymous.post("/api/v1/join-tokens", json={}, headers={auth.CSRF_HEADER: "0" * 64})
    assert (wrong.status_code, code_of(wrong)) == (403, "bad-csrf")
    assert anonymous.post("/api/v1/join-tokens", json={}, headers={auth.CSRF_HEADER: csrf}).status_code == 201

    again = anonymous.post("/api/v1/session", json={"code": code})
    assert (again.status_code, code_of(again)) == (401, "bad-code")


def test_a_session_makes_no_codes_and_ends_when_signed_out(api: TestClient, anonymous: TestClient) -> None:
    code = api.post("/api/v1/sign-in-codes").json()["code"]
    headers = {auth.CSRF_HEADER: anonymous.post("/api/v1/session", json={"code": code}).json()["csrf"]}
    assert anonymous.post("/api/v1/sign-in-codes", headers=headers).status_code == 401
    cookie = anonymous.cookies[auth.COOKIE]
    assert anonymous.delete("/api/v1/session", headers=headers).status_code == 204
    assert anonymous.get("/api/v1/system", headers={"Cookie": f"{auth.COOKIE}={cookie}"}).status_code == 401


def test_a_code_and_a_session_expire(hub: Hub) -> None:
    with hub.database.write() as session:
        late, good = auth.create_code(session, 1000.0), auth.create_code(session, 1000.0)
    with hub.database.write() as session, pytest.raises(ApiError, match="not valid"):
        auth.exchange_code(session, hub.tenant, late, 1001.0 + auth.CODE_TTL_S)
    with hub.database.write() as session:
        signed_in = auth.exchange_code(session, hub.tenant, good, 1000.0 + auth.CODE_TTL_S)
    assert auth.find_session(hub, signed_in.cookie, signed_in.expires_at).csrf_sha256 == auth.sha256(signed_in.csrf)
    with pytest.raises(ApiError, match="ended"):
        auth.find_session(hub, signed_in.cookie, signed_in.expires_at + 1)


def test_guessing_codes_is_limited_overall(anonymous: TestClient) -> None:
    for _ in range(auth.MAX_TRIES_A_MINUTE):
        assert anonymous.post("/api/v1/session", json={"code": "ABCDEFGH"}).status_code == 401
    refused = anonymous.post("/api/v1/session", json={"code": "ABCDEFGH"})
    assert (refused.status_code, code_of(refused), refused.headers["retry-after"]) == (429, "too-many-tries", "60")


def test_tries_are_forgotten_after_a_minute() -> None:
    limit = auth.TryLimit(2)
    limit.spend(0.0)
    limit.spend(30.0)
    with pytest.raises(ApiError):
        limit.spend(59.0)
    limit.spend(60.0)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8470", "127.0.0.1:1", "127.0.0.1", ""])
def test_a_request_that_names_another_host_gets_nothing(api: TestClient, host: str) -> None:
    response = api.get("/api/v1/system", headers={"Host": host})
    assert (response.status_code, code_of(response)) == (421, "wrong-host")


def test_own_hosts_are_the_loopback_names_with_the_port() -> None:
    assert own_hosts("127.0.0.1", 8470) == {"127.0.0.1:8470", "localhost:8470", "[::1]:8470"}
    assert "localhost" in own_hosts("127.0.0.1", 80)
    assert "[::1]:9" in own_hosts("::1", 9)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999"])
def test_a_page_of_another_origin_changes_nothing(api: TestClient, origin: str) -> None:
    response = api.post("/api/v1/join-tokens", json={}, headers={"Origin": origin})
    assert (response.status_code, code_of(response)) == (403, "wrong-origin")


def test_a_body_is_bounded_with_and_without_its_length_said(api: TestClient) -> None:
    said = api.post("/api/v1/join-tokens", content=b" " * (MAX_BODY + 1))
    assert (said.status_code, code_of(said)) == (413, "too-large")
    unsaid = api.post("/api/v1/join-tokens", content=iter([b" " * MAX_BODY, b" "]))
    assert (unsaid.status_code, code_of(unsaid)) == (413, "too-large")


def test_errors_are_problems_and_repeat_no_body(api: TestClient) -> None:
    unknown = api.get("/api/v1/nothing-here")
    assert (unknown.status_code, code_of(unknown)) == (404, "not-found")
    invalid = api.post("/api/v1/join-tokens", json={"uses": 0, "secret": "hunter2"})
    assert (invalid.status_code, code_of(invalid)) == (422, "invalid-request")
    assert "uses" in invalid.json()["detail"] and "hunter2" not in invalid.text
    assert code_of(api.get("/api/v1/devices?cursor=nonsense")) == "bad-cursor"


def test_answers_forbid_the_browser_what_the_console_does_not_need(api: TestClient) -> None:
    headers = api.get("/").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert api.get("/api/v1/system").headers["cache-control"] == "no-store"


def test_health_needs_no_token_and_readiness_knows_the_broker(hub: Hub, anonymous: TestClient) -> None:
    assert anonymous.get("/healthz").status_code == 200
    assert anonymous.get("/readyz").status_code == 200
    hub.broker_connected = lambda: False
    assert anonymous.get("/readyz").status_code == 503
    assert "edgewise_devices" in anonymous.get("/metrics").text


def test_the_document_is_built_without_a_hub_and_describes_every_operation() -> None:
    document = openapi()
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation.get("description"), path
    assert {"EnrollRequest", "EnrollResponse", "Problem"} <= set(document["components"]["schemas"])
