"""``edgewise-agent models``: what is installed, what each takes and gives."""

from __future__ import annotations

import argparse
import json
from typing import Any

from edgewise.bundle import Manifest, Tensor
from edgewise_agent.commands.parts import Command, installs, with_json
from edgewise_agent.store.installs import Install, Installs


def add(command: Command) -> None:
    """Its arguments."""
    with_json(command("models", run, "The models that are installed, with their inputs and outputs."))


def run(arguments: argparse.Namespace) -> None:
    """Print them."""
    kept = installs(arguments.data)
    found = [
        _described(kept, model, role, install)
        for model, duty in sorted(kept.duties.models.items())
        for role, install in (("active" if duty.confirmed else "on trial", duty.active), ("previous", duty.previous))
        if install is not None
    ]
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    if not found:
        print("no model is installed")
    for entry in found:
        whole = "" if entry["whole"] else ", not whole: it will be fetched again"
        print(f"{entry['model']} version {entry['version']} ({entry['duty']}{whole})")
        if entry["runtime"] is not None:
            print(f"  {entry['runtime']}, {entry['bytes'] / 2**20:.1f} MiB, bundle {entry['bundle'][:12]}")
            for kind in ("inputs", "outputs"):
                print(f"  {kind}: " + ", ".join(f"{t['name']} {t['datatype']} {t['shape']}" for t in entry[kind]))


def _described(kept: Installs, model: str, duty: str, install: Install) -> dict[str, Any]:
    manifest: Manifest | None = kept.manifest(install.bundle)

    def tensors(some: list[Tensor]) -> list[dict[str, Any]]:
        return [{"name": t.name, "datatype": t.datatype, "shape": t.shape} for t in some]

    return {
        "model": model,
        "version": install.version,
        "duty": duty,
        "bundle": install.bundle,
        "whole": kept.whole(install.bundle),
        "runtime": manifest.runtime if manifest else None,
        "bytes": sum(blob.size for blob in manifest.blobs.values()) if manifest else 0,
        "inputs": tensors(manifest.inputs) if manifest else [],
        "outputs": tensors(manifest.outputs) if manifest else [],
    }
