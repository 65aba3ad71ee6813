"""Releases of the agent, made of this very tree: wheels without pip."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from agent_builders import PROFILE, TENANT, Bundle, HubKey

import edgewise
import edgewise_agent
from edgewise.bundle import Blob, Manifest, digest, seal
from edgewise.wire.control import Duty
from edgewise_agent.update import AGENT, RUNTIME


def wheel(package: object, changed: dict[str, str] | None = None) -> bytes:
    """The package as a wheel has it; ``changed``: other content for some of its files."""
    root = Path(str(package.__file__)).parent  # type: ignore[attr-defined]
    kept = {
        path.relative_to(root.parent).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.suffix in (".py", ".toml", ".json") and "__pycache__" not in path.parts and "cli" not in path.parts
    }
    kept |= {name: text.encode() for name, text in (changed or {}).items()}
    kept[f"{root.name}-9.dist-info/METADATA"] = b"Metadata-Version: 2.1\n"
    return zipped(kept)


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def release(key: HubKey, version: int, **changed: str) -> Bundle:
    """A signed release whose agent says that it is of version 9.``version``; ``main``: another main.py."""
    files = {"edgewise_agent/main.py": changed["main"]} if "main" in changed else {}
    init = Path(edgewise_agent.__file__).read_text()
    files["edgewise_agent/__init__.py"] = init.replace(f'"{edgewise_agent.__version__}"', f'"9.{version}"')
    return bundle_of(key, version, [wheel(edgewise), wheel(edgewise_agent, files)])


def bundle_of(key: HubKey, version: int, wheels: list[bytes]) -> Bundle:
    """Signed."""
    parts = {f"wheel-{index}": data for index, data in enumerate(wheels)}
    manifest = Manifest(
        tenant=TENANT,
        model=AGENT,
        version=version,
        release=version,
        profile=PROFILE,
        runtime=RUNTIME,
        inputs=[],
        outputs=[],
        blobs={role: Blob(sha256=digest(data), size=len(data)) for role, data in parts.items()},
        created_at=1.0,
    )
    envelope = seal(manifest, key.sign)
    duty = Duty(bundle=digest(envelope), size=len(envelope), version=version, release=version)
    return Bundle(duty, manifest, {digest(envelope): envelope, **{digest(data): data for data in parts.values()}})
