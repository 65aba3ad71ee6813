"""Sketch specs by digest."""

from __future__ import annotations

from edgewise.sketch import SketchSpec
from edgewise.wire.codec import decode_json
from edgewise_hub.hub import Hub


class Specs:
    """Read once from the hub's blobs and kept: a fleet has few."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._specs: dict[str, SketchSpec] = {}

    def get(self, sha256: str) -> SketchSpec:
        """Raises BlobError when the blob is not here, WireError when it is no sketch spec."""
        if sha256 not in self._specs:
            self._specs[sha256] = decode_json(self._hub.blobs.read(sha256), SketchSpec)
        return self._specs[sha256]
