"""Blobs, and models with their versions and bundles."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewise.endpoints.base import Endpoint
from edgewise.endpoints.learning import Training
from edgewise.errors import EdgewiseError
from edgewise.resources import Bundle, Model, RolloutPlan, TrainingRun, Version
from edgewise.transport import segment
from edgewise.wire.quality import Quality


class Blobs(Endpoint):
    """Bytes by sha256."""

    def put(self, path: Path) -> str:
        """Send a file, unless the hub has it already; returns its sha256. Raises EdgewiseError (code ``bad-file``)."""
        try:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
            sha256 = digest.hexdigest()
            if not self._transport.has_blob(sha256):
                self._transport.put_blob(sha256, path)
        except OSError as error:
            raise EdgewiseError(f"{path}: cannot be read: {error.strerror}", code="bad-file") from error
        return sha256


class Models(Endpoint):
    """Models, their versions and their bundles."""

    def list(self) -> Sequence[Model]:
        """All models."""
        return self._transport.list("/models", Model)

    def get(self, name: str) -> Model:
        """One model."""
        return self._transport.get(f"/models/{segment(name)}", Model)

    def versions(self, name: str, limit: int | None = None) -> Sequence[Version]:
        """A model's versions."""
        return self._transport.list(f"/models/{segment(name)}/versions", Version, limit)

    def version(self, name: str, version: int) -> Version:
        """One version, with its lineage and its bundles."""
        return self._transport.get(f"/models/{segment(name)}/versions/{version}", Version)

    def bundle(self, digest: str) -> Bundle:
        """One bundle."""
        return self._transport.get(f"/bundles/{segment(digest)}", Bundle)

    def set_quality(self, name: str, quality: Quality) -> Model:
        """Say what devices do with inputs that do not look right, of each problem; None leaves it to the default."""
        return self._transport.patch(f"/models/{segment(name)}", Model, {"quality": quality})

    def register_onnx(self, name: str, model_path: Path | str, data_path: Path | str, note: str = "") -> Version:
        """A new version from an ONNX file and an npz with ``inputs`` and, if known, ``labels``: sends both."""
        blobs = Blobs(self._transport)
        source = {"kind": "onnx", "model": blobs.put(Path(model_path)), "data": blobs.put(Path(data_path))}
        return self._register(name, source, note)

    def register_recipe(
        self, name: str, recipe_path: Path | str, weights_path: Path | str, config: Mapping[str, Any], note: str = ""
    ) -> Version:
        """A new version from a recipe and weights (safetensors) that were trained elsewhere: sends both."""
        blobs = Blobs(self._transport)
        recipe, weights = blobs.put(Path(recipe_path)), blobs.put(Path(weights_path))
        source = {"kind": "recipe", "recipe": recipe, "weights": weights, "config": dict(config)}
        return self._register(name, source, note)

    def register_release(self, wheel_paths: Sequence[Path | str], note: str = "") -> Version:
        """A new release of the agent from its wheels, which are sent: a version of ``edgewise-agent``, to roll out."""
        blobs = Blobs(self._transport)
        wheels = [blobs.put(Path(path)) for path in wheel_paths]
        return self._register("edgewise-agent", {"kind": "agent", "wheels": wheels}, note)

    def train(
        self,
        name: str,
        recipe_path: Path | str,
        config: Mapping[str, Any] | None = None,
        *,
        profiles: Sequence[str] = (),
        rollout: RolloutPlan | None = None,
        note: str = "",
    ) -> TrainingRun:
        """Train a new version from scratch with a recipe, which is sent; wait for it with ``training.wait``.
        An accepted version is compiled for ``profiles`` and, with ``rollout``, rolled out."""
        recipe = Blobs(self._transport).put(Path(recipe_path))
        training = Training(self._transport)
        return training.start(name, recipe=recipe, config=config, profiles=profiles, rollout=rollout, note=note)

    def _register(self, name: str, source: dict[str, Any], note: str) -> Version:
        return self._transport.post(f"/models/{segment(name)}/versions", Version, {"source": source, "note": note})
