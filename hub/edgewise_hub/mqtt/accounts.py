"""Broker accounts: one role and one client a device, made over mosquitto's dynamic security (``$CONTROL``).

Rules that hold here:
- everything is denied unless a role allows it, and a device's role names its own topics only, and casts: whoever knows
  a blob's digest may hear its cast, but nobody may listen to all casts;
- a device's password is made here, handed out once, and kept by the broker alone, as a salted hash;
- every command is answered, correlated, and its error surfaced: an account is there when ``put`` returns.

With a broker of one's own (``EDGEWISE_BROKER_URL``) the same commands go to the same topic: it must be a mosquitto
with the dynamic security plugin, and the hub's account there must be allowed ``$CONTROL/dynamic-security/#``.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edgewise.errors import EdgewiseError
from edgewise.wire import topics

CONTROL = "$CONTROL/dynamic-security/v1"
RESPONSE = f"{CONTROL}/response"
DEADLINE_S = 10.0
HUB_CLIENT = "edgewise-hub"
_ITERATIONS = 20_000


class AccountError(EdgewiseError):
    """The broker did not take a command: ``no-broker`` (no answer) or ``broker-refused``."""

    code = "broker-refused"


@dataclass
class _Waiting:
    expected: set[str]
    answers: dict[str, str | None] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)


class Accounts:
    """``publish`` sends (topic, payload) to the broker; whoever receives ``RESPONSE`` hands it to ``on_response``."""

    def __init__(self, tenant: str, publish: Callable[[str, bytes], None], deadline_s: float = DEADLINE_S) -> None:
        self._tenant = tenant
        self._publish = publish
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []

    def username(self, device: str) -> str:
        """The broker account of a device."""
        return f"{self._tenant}.{device}"

    def put(self, device: str) -> tuple[str, str]:
        """Make a device's account, or give it a new password and its role again: (username, password).

        Raises AccountError.
        """
        username, password = self.username(device), secrets.token_urlsafe(32)
        role = {"rolename": username, "acls": device_acls(self._tenant, device)}
        client = {"username": username, "password": password, "roles": [{"rolename": username}]}
        self._create_or_modify("createRole", "modifyRole", role)
        self._create_or_modify("createClient", "modifyClient", client)
        self._checked({"command": "enableClient", "username": username})
        return username, password

    def disable(self, device: str) -> None:
        """End a device's session and let it in no more. Raises AccountError."""
        self._checked({"command": "disableClient", "username": self.username(device)}, passes="Client not found")

    def delete(self, device: str) -> None:
        """Forget a device's account. Raises AccountError."""
        username = self.username(device)
        self._checked({"command": "deleteClient", "username": username}, passes="Client not found")
        self._checked({"command": "deleteRole", "rolename": username}, passes="Role not found")

    def on_response(self, payload: bytes) -> None:
        """An answer of the broker, from the connection's thread."""
        try:
            responses = msgspec.json.decode(payload)["responses"]
            answers = {str(r["correlationData"]): r.get("error") for r in responses if "correlationData" in r}
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
            return
        with self._lock:
            for waiting in self._waiting:
                waiting.answers.update({key: answers[key] for key in waiting.expected & set(answers)})
                if set(waiting.answers) == waiting.expected:
                    waiting.done.set()

    def _create_or_modify(self, create: str, modify: str, body: dict[str, Any]) -> None:
        error = self._command({"command": create, **body})
        if error is not None and "already exists" in error:
            error = self._command({"command": modify, **body})
        if error is not None:
            raise AccountError(f"{create}: the broker refused: {error}")

    def _checked(self, command: dict[str, Any], passes: str | None = None) -> None:
        error = self._command(command)
        if error is not None and error != passes:
            raise AccountError(f"{command['command']}: the broker refused: {error}")

    def _command(self, command: dict[str, Any]) -> str | None:
        """Send one command and wait for its answer: None, or the broker's error."""
        key = secrets.token_hex(8)
        waiting = _Waiting({key})
        with self._lock:
            self._waiting.append(waiting)
        try:
            self._publish(CONTROL, msgspec.json.encode({"commands": [{**command, "correlationData": key}]}))
            if not waiting.done.wait(self._deadline_s):
                raise AccountError(
                    f"{command['command']}: no answer from the broker within {self._deadline_s:.0f} s; "
                    "is it a mosquitto with dynamic security, and may the hub's account use it?",
                    code="no-broker",
                )
        finally:
            with self._lock:
                self._waiting.remove(waiting)
        return waiting.answers[key]


def device_acls(tenant: str, device: str) -> list[dict[str, Any]]:
    """What a device's role allows: its own topics, each in its own direction."""
    base = topics.base(tenant, device)
    sends = ["reported", "presence", "progress/#", "windows/#", "sample/#", "blob/get", "blob/delta", "blob/heard"]
    receives = ["desired", "ack/#", "blob/block", "blob/offer"]
    casts = f"{topics.casts(tenant)}+"
    return (
        [_allow("publishClientSend", f"{base}/{rest}") for rest in sends]
        + [_allow("publishClientReceive", f"{base}/{rest}") for rest in receives]
        + [_allow("subscribePattern", f"{base}/{rest}") for rest in receives]
        + [_allow("publishClientReceive", casts), _allow("subscribePattern", casts)]
        + [{"acltype": "subscribeLiteral", "topic": casts, "priority": 1, "allow": False}]
    )


def initial_state(password: str) -> bytes:
    """mosquitto's dynamic-security.json at first start: deny everything, and the hub's own client with its role."""
    salt = secrets.token_bytes(12)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS, 64)
    everything = ("publishClientSend", "publishClientReceive", "subscribePattern", "unsubscribePattern")
    state = {
        "defaultACLAccess": {
            "publishClientSend": False,
            "publishClientReceive": False,
            "subscribe": False,
            "unsubscribe": False,
        },
        "clients": [
            {
                "username": HUB_CLIENT,
                "roles": [{"rolename": HUB_CLIENT}],
                "password": base64.b64encode(key).decode(),
                "salt": base64.b64encode(salt).decode(),
                "iterations": _ITERATIONS,
            }
        ],
        "groups": [],
        "roles": [
            {
                "rolename": HUB_CLIENT,
                "acls": [_allow(kind, topic) for kind in everything for topic in ("#", f"{CONTROL}/#")],
            }
        ],
    }
    return msgspec.json.encode(state)


def _allow(kind: str, topic: str) -> dict[str, Any]:
    return {"acltype": kind, "topic": topic, "priority": 0, "allow": True}
