"""Alerts reach their webhook signed and once, however the receiver stumbles, and tell nobody the secret."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import queue
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from edgewise_hub.monitoring import alerts, webhooks
from edgewise_hub.settings import Settings

SECRET = "a secret of the receiver"


class Receiver(HTTPServer):
    """Answers with ``answers`` in turn, then 204; keeps what came."""

    def __init__(self, answers=()):
        self.answers, self.came = list(answers), queue.Queue()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook/token-in-the-path"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.came.put((dict(self.headers), body))
        status = self.server.answers.pop(0) if self.server.answers else 204
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def send(hub):
    """``send(receiver)``: an alert opens while a sender runs."""
    started = []

    def start(receiver, waits_s=(0.01, 0.01)):
        webhook = webhooks.parse(receiver.url, SECRET, loopback=True)
        sender = webhooks.Sender(hub, webhook, clock=lambda: 1_700_000_000.5, waits_s=waits_s)
        sender.start()
        started.append((sender, receiver))
        with hub.database.write() as session:
            alert = alerts.open_alert(
                session, hub.tenant, "drift", "digits", "b", summary="Drift in b", details={"verdict": "drift"}, now=5.0
            )
        hub.events.publish("judgement", "none of a webhook's business")
        hub.events.publish("alert", alert.id)
        return sender

    yield start
    for sender, receiver in started:
        sender.stop()
        receiver.shutdown()
        receiver.server_close()


def test_an_alert_is_posted_and_its_signature_can_be_checked(send):
    receiver = Receiver()
    send(receiver)
    headers, body = receiver.came.get(timeout=60)
    at, mac = (part.split("=")[1] for part in headers["X-Edgewise-Signature"].split(","))
    assert mac == hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    assert at == "1700000000"
    told = json.loads(body)
    assert (told["event"], told["group"], told["details"]["verdict"]) == ("alert.open", "b", "drift")


def test_a_receiver_that_stumbles_is_tried_again_with_the_same_delivery(send):
    receiver = Receiver([500, 302])
    send(receiver)
    came = [receiver.came.get(timeout=60)[0]["X-Edgewise-Delivery"] for _ in range(3)]
    assert len(set(came)) == 1


def test_what_cannot_be_delivered_is_given_up_and_neither_secret_nor_path_is_logged(send, caplog):
    caplog.set_level(logging.DEBUG)
    receiver = Receiver([503] * 3)
    sender = send(receiver)
    for _ in range(3):
        receiver.came.get(timeout=60)
    sender.stop()
    said = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("edgewise"))
    assert "was not delivered: answered 503" in said and "127.0.0.1" in said
    assert SECRET not in caplog.text and "token-in-the-path" not in caplog.text


@pytest.mark.parametrize(
    ("url", "loopback", "says"),
    [
        ("http://example.org/x", True, "expected https"),
        ("http://127.0.0.1/x", False, "expected https"),
        ("http://localhost.example.org/x", True, "expected https"),
        ("ftp://127.0.0.1/x", True, "expected https://HOST/PATH"),
        ("https://user:word@example.org/x", True, "without a user"),
        ("https:///x", True, "expected https://HOST/PATH"),
    ],
)
def test_an_unsafe_url_is_refused_without_being_repeated(url, loopback, says):
    with pytest.raises(webhooks.WebhookError, match=says) as caught:
        webhooks.parse(url, SECRET, loopback=loopback)
    assert url not in str(caught.value)


def test_a_short_secret_is_refused_and_no_repr_shows_one(tmp_path):
    with pytest.raises(webhooks.WebhookError, match="at least 16"):
        webhooks.parse("https://example.org/x", "short", loopback=False)
    environment = {
        "EDGEWISE_WEBHOOK_URL": "https://example.org/token", "EDGEWISE_WEBHOOK_SECRET": SECRET,
        "EDGEWISE_WEBHOOK_LOOPBACK": "1", "EDGEWISE_DATA": str(tmp_path),
    }  # fmt: skip
    settings = Settings.from_environment(environment)
    assert settings.webhook_loopback and settings.webhook_secret == SECRET
    assert SECRET not in repr(settings) and "token" not in repr(settings)
    assert SECRET not in repr(webhooks.parse(settings.webhook_url, settings.webhook_secret, loopback=False))
