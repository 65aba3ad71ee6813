"""Webhooks: each alert that opens, changes or closes is posted to one URL, signed, so that a pager or a chat hears of
it.

Rules that hold here:
- https only; plain http to a loopback address only where a setting says so; redirects are not followed;
- the body is signed: ``X-Edgewise-Signature: t=UNIX,v1=HEX``, HMAC-SHA256 over ``t + "." + body`` with the shared
  secret, so that a receiver can refuse what is forged, or old; ``X-Edgewise-Delivery`` is the same for every try of
  one message;
- the secret and the URL's path and query, which may be secrets too, are in no log and in no answer;
- one thread, a bounded queue, a time limit and few tries for each: a receiver that is down delays nobody else, and
  what is not delivered is counted and logged. Alerts stay in the API: a webhook is a hint, as an event is.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from edgewise.errors import EdgewiseError
from edgewise_hub import metrics
from edgewise_hub.hub import Hub
from edgewise_hub.monitoring.tables import Alert

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
WAITS_S = (1.0, 4.0, 16.0, 60.0)
"""Between tries; after the last, the message is given up."""
LONGEST = 2_000
"""Characters of a summary."""


class WebhookError(EdgewiseError):
    """A webhook that cannot be used as it is set."""

    code = "bad-webhook"


@dataclass(frozen=True)
class Webhook:
    """Where alerts go. The secret is in no ``repr``."""

    url: str = field(repr=False)
    secret: str = field(repr=False)

    @property
    def host(self) -> str:
        """What may be logged of it."""
        return urlsplit(self.url).hostname or ""


def parse(url: str, secret: str, *, loopback: bool) -> Webhook:
    """Check a webhook's settings. ``loopback``: may it be plain http to this machine? Raises WebhookError."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.password:
        raise WebhookError("EDGEWISE_WEBHOOK_URL: expected https://HOST/PATH without a user or a password")
    if parts.scheme == "http" and not (loopback and _is_loopback(parts.hostname)):
        raise WebhookError(
            "EDGEWISE_WEBHOOK_URL: expected https; http is for 127.0.0.1 and ::1, with EDGEWISE_WEBHOOK_LOOPBACK=1"
        )
    if len(secret) < 16:
        raise WebhookError("EDGEWISE_WEBHOOK_SECRET: expected at least 16 characters, which the receiver knows too")
    return Webhook(url, secret)


def sign(secret: str, at: int, body: bytes) -> str:
    """The value of ``X-Edgewise-Signature``. ``at``: Unix seconds."""
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


def message(alert: Alert) -> dict[str, Any]:
    """What is posted of an alert."""
    return {
        "event": "alert.closed" if alert.closed_at else "alert.open",
        "id": alert.id,
        "kind": alert.kind,
        "model": alert.model,
        "group": alert.group,
        "summary": alert.summary[:LONGEST],
        "opened_at": alert.opened_at,
        "closed_at": alert.closed_at,
        "details": {name: alert.details.get(name) for name in ("verdict", "kinds", "p_value", "false_alert_rate")},
    }


class Sender:
    """Hears the hub's alert events and posts them, on a thread of its own. ``clock`` gives Unix seconds; ``waits_s``
    are the pauses between tries."""

    def __init__(
        self,
        hub: Hub,
        webhook: Webhook,
        *,
        clock: Callable[[], float] = time.time,
        waits_s: tuple[float, ...] = WAITS_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._hub, self._webhook, self._clock = hub, webhook, clock
        self._waits_s, self._timeout_s = waits_s, timeout_s
        self._stopping = threading.Event()
        self._events = hub.events.subscribe()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Start the thread. The client's own loggers would tell the whole URL."""
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._thread.start()

    def stop(self) -> None:
        """End after the try at hand."""
        self._stopping.set()
        self._thread.join(self._timeout_s + 1)
        self._hub.events.unsubscribe(self._events)

    def _run(self) -> None:
        with httpx.Client(timeout=self._timeout_s, follow_redirects=False, trust_env=False) as client:
            while not self._stopping.is_set():
                try:
                    event = self._events.get(timeout=0.5)
                except queue.Empty:
                    continue
                if event.kind == "alert":
                    self._deliver(client, event.id)

    def _deliver(self, client: httpx.Client, identifier: str) -> None:
        with self._hub.database.read() as session:
            alert = session.get(Alert, (self._hub.tenant, identifier))
        if alert is None:
            return
        body = json.dumps(message(alert)).encode()
        delivery = uuid.uuid4().hex
        for wait in (*self._waits_s, None):
            problem = self._post(client, body, delivery)
            if problem is None:
                metrics.WEBHOOKS.labels("delivered").inc()
                return
            if wait is None or self._stopping.wait(wait):
                break
        metrics.WEBHOOKS.labels("failed").inc()
        log.warning("webhook to %s: alert %s was not delivered: %s", self._webhook.host, identifier, problem)

    def _post(self, client: httpx.Client, body: bytes, delivery: str) -> str | None:
        """None where the receiver took it, else why not."""
        at = int(self._clock())
        headers = {
            "Content-Type": "application/json",
            "X-Edgewise-Signature": sign(self._webhook.secret, at, body),
            "X-Edgewise-Delivery": delivery,
        }
        try:
            # The answer's body is not read: a receiver cannot fill this hub's memory.
            with client.stream("POST", self._webhook.url, content=body, headers=headers) as answer:
                return None if 200 <= answer.status_code < 300 else f"answered {answer.status_code}"
        except httpx.HTTPError as error:
            return type(error).__name__


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
