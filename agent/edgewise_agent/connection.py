"""The MQTT session: one network thread that only moves messages, presence, and reconnects.

Rules that hold here:
- MQTT 5, QoS 1, no topic aliases; the broker keeps the session for 7 days (``clean_start=False``);
- each attempt to connect has its own number (persisted before it): birth and will carry it, so that a will that comes
  late is known to be stale;
- reconnects wait for a decorrelated jitter (0.5 s to 30 s); paho's own reconnect is off;
- callbacks put bounded events into a bounded queue; what does not fit is dropped, counted, and asked for again by the
  timers above (blocks, windows, the retained desired state on the next connection);
- nothing that must not be lost is left to paho's memory: windows are on disk until the hub acknowledged them;
- one cast is subscribed to at a time, at QoS 0: the broker keeps none of it for a device that is away.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edgewise.errors import EdgewiseError
from edgewise.wire import topics
from edgewise.wire.codec import MAX_MESSAGE, encode_json
from edgewise.wire.control import Presence
from edgewise_agent.events import Connected, Disconnected, Event, Inbound
from edgewise_agent.identity import Identity
from edgewise_agent.jitter import Draw, decorrelated
from edgewise_agent.store.disk import Disk, DiskError, read

log = logging.getLogger(__name__)

KEEPALIVE_S = 15
SESSION_EXPIRY_S = 7 * 86400
FIRST_WAIT_S = 0.5
MAX_WAIT_S = 30.0
MAX_QUEUED = 256
"""Messages that paho may hold for us; beyond it a publish fails, and its timer tries again."""
MAX_BLOCKS_WAITING = 32
"""Blocks that may wait for the agent's loop, 120 KiB each; one more is dropped, and asked for again."""


class BadBroker(EdgewiseError):
    """The broker's address in the identity cannot be used."""

    code = "bad-broker"


def broker_address(url: str) -> tuple[str, int, bool]:
    """(host, port, TLS?) of ``mqtt://host:port`` or ``mqtts://host:port``. Raises BadBroker."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadBroker(f"broker: {error}") from error
    if parts.scheme not in ("mqtt", "mqtts") or not host:
        raise BadBroker(f"broker: expected mqtt://host:port or mqtts://host:port, got {parts.scheme or 'no'} scheme")
    return host, port or (8883 if parts.scheme == "mqtts" else 1883), parts.scheme == "mqtts"


class Connection:
    """The device's connection to its hub. Publishing is for the agent's loop; ``events`` is where the rest comes."""

    def __init__(
        self,
        identity: Identity,
        disk: Disk,
        session_file: Path,
        events: queue.Queue[Event],
        draw: Draw = random.uniform,
    ) -> None:
        self._identity, self._disk, self._session_file = identity, disk, session_file
        self._events, self._draw = events, draw
        self._host, self._port, tls = broker_address(identity.broker_url)
        self._base = topics.base(identity.tenant, identity.device)
        self._casts = topics.casts(identity.tenant)
        self._session = int(read(session_file, 64) or b"0")
        self._stopping = threading.Event()
        self.dropped = 0
        self.connected = self._established = False
        self._cast: str | None = None
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{identity.tenant}.{identity.device}",
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,
        )
        client.username_pw_set(identity.username, identity.password)
        client.max_queued_messages_set(MAX_QUEUED)
        if tls:
            client.tls_set()
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        self._client = client
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Connect, and stay connected, until ``stop``."""
        self._thread.start()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Hand a message to the network; False when it was not taken (no connection, or too many are waiting)."""
        if not self.connected:
            return False
        return self._client.publish(topic, payload, qos=1, retain=retain).rc == mqtt.MQTT_ERR_SUCCESS

    def hear(self, topic: str | None) -> bool:
        """Be subscribed to this cast and no other; False without a connection."""
        if not self.connected:
            return False
        if topic != self._cast:
            if self._cast is not None:
                self._client.unsubscribe(self._cast)
            if topic is not None:
                self._client.subscribe(topic, qos=0)
            self._cast = topic
        return True

    def stop(self, timeout_s: float = 5.0) -> None:
        """Say offline, and leave."""
        self._stopping.set()
        if self.connected:
            goodbye = self._client.publish(f"{self._base}/presence", self._presence(False), qos=1, retain=True)
            try:
                goodbye.wait_for_publish(timeout_s)
            except (RuntimeError, ValueError) as error:
                log.warning("offline could not be published: %s", error)
        self._client.disconnect()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _presence(self, online: bool) -> bytes:
        return encode_json(Presence(device=self._identity.device, online=online, session=self._session))

    def _run(self) -> None:
        wait_s = FIRST_WAIT_S
        while not self._stopping.is_set():
            try:
                self._connect()
                self._client.loop_forever()
            except (OSError, DiskError) as error:  # OSError covers refused, unreachable, TLS
                log.warning("broker %s:%d: %s", self._host, self._port, error)
            except Exception:  # what paho cannot parse: this thread must live on, or the device is lost to its hub
                log.exception("broker %s:%d: the connection failed", self._host, self._port)
            if self._established:
                wait_s = FIRST_WAIT_S
            self._established = self.connected = False
            wait_s = decorrelated(wait_s, self._draw, FIRST_WAIT_S, MAX_WAIT_S)
            self._stopping.wait(wait_s)

    def _connect(self) -> None:
        self._session += 1
        self._disk.replace(self._session_file, str(self._session).encode())
        self._client.will_set(f"{self._base}/presence", self._presence(False), qos=1, retain=True)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.MaximumPacketSize = MAX_MESSAGE + 4096
        properties.ReceiveMaximum = 64
        self._client.connect(self._host, self._port, KEEPALIVE_S, clean_start=False, properties=properties)

    def _on_connect(
        self, client: mqtt.Client, userdata: object, flags: mqtt.ConnectFlags, code: ReasonCode, properties: object
    ) -> None:
        if code.is_failure:
            log.warning("broker %s:%d refused us: %s", self._host, self._port, code)
            client.disconnect()
            return
        self._cast = None
        self._established = self.connected = True
        client.subscribe([(f"{self._base}/{rest}", SubscribeOptions(qos=1)) for rest in _SUBSCRIPTIONS])
        client.publish(f"{self._base}/presence", self._presence(True), qos=1, retain=True)
        self._put(Connected())

    def _on_disconnect(
        self, client: mqtt.Client, userdata: object, flags: object, code: ReasonCode, properties: object
    ) -> None:
        self.connected = False
        self._put(Disconnected(str(code)))

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        if message.topic.startswith(self._casts) and len(message.payload) <= MAX_MESSAGE:
            if message.topic == self._cast:
                self._put_block(Inbound("cast", message.topic.removeprefix(self._casts), bytes(message.payload)))
            else:  # left over from the session before a restart
                client.unsubscribe(message.topic)
            return
        try:
            topic = topics.parse(message.topic)
        except EdgewiseError as error:
            log.warning("message refused: %s", error)
            return
        mine = (topic.tenant, topic.device) == (self._identity.tenant, self._identity.device)
        if not mine or len(message.payload) > MAX_MESSAGE:
            self.dropped += 1
            log.warning("message refused: %d bytes on %s", len(message.payload), message.topic[:200])
            return
        inbound = Inbound(topic.kind, topic.rest, bytes(message.payload))
        (self._put_block if (topic.kind, topic.rest) == ("blob", "block") else self._put)(inbound)

    def _put_block(self, block: Inbound) -> None:
        """A block, unless so many wait that they would fill the memory."""
        if self._events.qsize() < MAX_BLOCKS_WAITING:
            self._put(block)
        else:
            self.dropped += 1

    def _put(self, event: Event) -> None:
        try:
            self._events.put_nowait(event)
        except queue.Full:
            self.dropped += 1
            log.warning("the agent is behind: a %s was dropped", type(event).__name__)


_SUBSCRIPTIONS = ("desired", "ack/+", "blob/block", "blob/offer")
