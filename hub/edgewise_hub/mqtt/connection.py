"""The hub's own connection to the broker: what it subscribes to, how it publishes, when it connects again.

Rules that hold here:
- QoS 1 both ways, but for blocks (a device asks again for what it lacks); what comes in is acknowledged to the broker
  only after the inbox has committed it;
- windows, samples, progress and block requests come through shared subscriptions (several hub processes may share
  them), retained state unshared;
- without a connection ``publish`` drops the message: everything retained is published again at each connection, and a
  device asks again for the rest;
- reconnects wait with decorrelated jitter.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edgewise.errors import EdgewiseError, WireError
from edgewise.wire import topics
from edgewise_hub.mqtt.accounts import RESPONSE, Accounts
from edgewise_hub.mqtt.inbox import Inbound, Outbound

log = logging.getLogger(__name__)

RECEIVE_MAXIMUM = 500
MAX_PACKET = 256 * 1024
SESSION_EXPIRY_S = 86400
KEEPALIVE_S = 30
MAX_RECONNECT_S = 15
SHARED_KINDS = ("windows/+", "sample/+", "progress/+", "blob/get", "blob/delta")
UNSHARED_KINDS = ("reported", "presence", "blob/heard")

Receive = Callable[[Inbound, Callable[[], None]], None]
"""(message, acknowledge): ``acknowledge`` is called once it is committed."""


class BrokerError(EdgewiseError):
    """The broker cannot be used: it does not answer, refuses the hub's account, or its address is wrong."""

    code = "no-broker"


class BrokerAddress:
    """``mqtt://user:password@host:port``; ``public`` is the same without the account, for devices and logs."""

    def __init__(self, url: str) -> None:
        """Raises BrokerError, without repeating the password."""
        parts = urlsplit(url)
        try:
            self.host, self.port = parts.hostname or "", parts.port or 1883
        except ValueError as error:
            raise BrokerError("EDGEWISE_BROKER_URL: expected a port number of 1 to 65535") from error
        if parts.scheme != "mqtt" or not self.host:
            raise BrokerError("EDGEWISE_BROKER_URL: expected mqtt://USER:PASSWORD@HOST:PORT")
        self.username, self.password = unquote(parts.username or ""), unquote(parts.password or "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.public = SplitResult("mqtt", f"{host}:{self.port}", "", "", "").geturl()


class Connection:
    """One MQTT session that outlives reconnects; ``accounts`` gives its commands over it."""

    def __init__(self, address: BrokerAddress, tenant: str, seed: int | None = None) -> None:
        """``seed``: of the reconnects' jitter."""
        self._address = address
        self._tenant = tenant
        self._random = random.Random(seed)
        self._delay_s = 1
        self._connected = threading.Event()
        self._life = 0
        self._refused = ""
        self.accounts = Accounts(tenant, self._send)
        self._client = self._make_client()

    def start(
        self,
        receive: Receive,
        blob_message: Callable[[Inbound], None],
        on_connected: Callable[[], None],
        deadline_s: float = 10.0,
    ) -> None:
        """Connect, and keep connected. All three are called from paho's thread, and must not block: ``receive`` takes
        what the inbox handles, ``blob_message`` what ``blocks`` answers, ``on_connected`` is told of each connection.

        Raises BrokerError when there is no connection within ``deadline_s``.
        """
        self._receive, self._blob_message, self._on_connected = receive, blob_message, on_connected
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = MAX_PACKET
        self._client.connect_async(
            self._address.host, self._address.port, KEEPALIVE_S, clean_start=False, properties=properties
        )
        self._client.loop_start()
        if not self._connected.wait(deadline_s):
            self.stop()
            reason = self._refused or f"no answer within {deadline_s:.0f} s"
            raise BrokerError(f"broker {self._address.public}: {reason}")

    def stop(self) -> None:
        """Say goodbye and end the thread."""
        self._connected.clear()
        self._client.disconnect()
        self._client.loop_stop()

    def connected(self) -> bool:
        """Is there a connection now?"""
        return self._connected.is_set()

    def publish(self, message: Outbound, qos: int = 1) -> MQTTMessageInfo | None:
        """Publish from any thread; None, and nothing sent, without a connection."""
        if not self._connected.is_set():
            return None
        return self._client.publish(message.topic, message.payload, qos=qos, retain=message.retain)

    def _make_client(self) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"edgewise-hub-{self._tenant}",
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        client.username_pw_set(self._address.username, self._address.password)
        client.max_inflight_messages_set(RECEIVE_MAXIMUM)
        client.reconnect_delay_set(1, 1)
        client.on_connect = self._connect_answered
        client.on_connect_fail = self._connect_failed
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_message = self._message
        return client

    def _connect_answered(
        self, client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._refused = f"it refuses the hub's account: {reason}"
            self._wait_longer()
            return
        base = f"{topics.ROOT}/{self._tenant}/d/+"
        subscriptions = [RESPONSE]
        subscriptions += [f"{base}/{kind}" for kind in UNSHARED_KINDS]
        subscriptions += [f"$share/hub/{base}/{kind}" for kind in SHARED_KINDS]
        client.subscribe([(topic, 1) for topic in subscriptions])
        self._life += 1
        self._delay_s = 1
        client.reconnect_delay_set(1, 1)
        self._connected.set()
        log.info("connected to the broker at %s", self._address.public)
        self._on_connected()

    def _subscribed(
        self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        denied = [str(reason) for reason in reasons if reason.is_failure]
        if denied:
            log.error("the broker at %s denies the hub its subscriptions: %s", self._address.public, ", ".join(denied))

    def _connect_failed(self, _client: Client, _data: Any) -> None:
        self._wait_longer()

    def _disconnected(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if self._connected.is_set():
            log.warning("lost the broker at %s: %s", self._address.public, reason)
        self._connected.clear()

    def _wait_longer(self) -> None:
        """Decorrelated jitter: between 1 s and three times the last wait, capped."""
        self._delay_s = min(MAX_RECONNECT_S, self._random.randint(1, self._delay_s * 3))
        self._client.reconnect_delay_set(self._delay_s, self._delay_s)

    def _message(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        life, mid, qos = self._life, message.mid, message.qos

        def acknowledge() -> None:
            if life == self._life:  # a number of a connection that is gone means another message now
                client.ack(mid, qos)

        if message.topic == RESPONSE:
            self.accounts.on_response(bytes(message.payload))
            acknowledge()
            return
        try:
            topic = topics.parse(message.topic)
        except WireError as error:
            log.warning("%s", error)
            acknowledge()
            return
        inbound = Inbound(topic, bytes(message.payload), time.time())
        if topic.kind == "blob":
            self._blob_message(inbound)
            acknowledge()
        elif message.payload:
            self._receive(inbound, acknowledge)
        else:  # retained state being cleared
            acknowledge()

    def _send(self, topic: str, payload: bytes) -> None:
        if self.publish(Outbound(topic, payload)) is None:
            raise BrokerError(f"broker {self._address.public}: not connected; try again shortly")
