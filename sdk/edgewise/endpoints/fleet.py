"""Devices, groups, device profiles and join tokens."""

from __future__ import annotations

from collections.abc import Sequence

from edgewise.endpoints.base import Endpoint
from edgewise.resources import Device, DeviceHealth, DeviceProfile, Group, JoinToken
from edgewise.transport import segment


class Devices(Endpoint):
    """Devices of the fleet, by id."""

    def list(self, *, group: str | None = None, state: str | None = None, limit: int | None = None) -> Sequence[Device]:
        """All devices, or those of a group or a state."""
        return self._transport.list("/devices", Device, limit, group=group, state=state)

    def get(self, device: str) -> Device:
        """One device."""
        return self._transport.get(f"/devices/{segment(device)}", Device)

    def health(self, device: str, *, since: float | None = None) -> DeviceHealth:
        """Its resources and its models' latency since ``since`` (Unix seconds; the last day)."""
        return self._transport.get(f"/devices/{segment(device)}/health", DeviceHealth, since=since)

    def set_groups(self, device: str, groups: Sequence[str]) -> Device:
        """Replace a device's groups."""
        return self._transport.patch(f"/devices/{segment(device)}", Device, {"groups": groups})

    def revoke(self, device: str) -> Device:
        """Take a device's account away: it can no longer connect."""
        return self._transport.post(f"/devices/{segment(device)}/revoke", Device)


class Groups(Endpoint):
    """Named groups."""

    def list(self) -> Sequence[Group]:
        """All groups."""
        return self._transport.list("/groups", Group)


class Profiles(Endpoint):
    """Device profiles that the hub knows."""

    def list(self) -> Sequence[DeviceProfile]:
        """All profiles."""
        return self._transport.list("/profiles", DeviceProfile)


class Tokens(Endpoint):
    """Join tokens, with which devices enroll."""

    def create(self, groups: Sequence[str] = (), uses: int = 1, expires_in: float = 3600) -> JoinToken:
        """A token for ``uses`` devices, which join ``groups``, within ``expires_in`` seconds."""
        body = {"groups": groups, "uses": uses, "expires_in": expires_in}
        return self._transport.post("/join-tokens", JoinToken, body)

    def list(self) -> Sequence[JoinToken]:
        """The tokens that there are; their secrets are not shown again."""
        return self._transport.list("/join-tokens", JoinToken)

    def delete(self, token_id: str) -> None:
        """No further device joins with it."""
        self._transport.delete(f"/join-tokens/{segment(token_id)}")
