"""What every resource of the client stands on."""

from __future__ import annotations

from edgewise.transport import Transport

EVERY_S = 0.5
"""How often a wait asks, in seconds."""


class Endpoint:
    """A part of the API, over one transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
