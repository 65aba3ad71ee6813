"""Blobs, versions and bundles: nothing is named that is not whole on the hub."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from edgewise.bundle import Manifest, unseal
from edgewise.errors import BundleError
from edgewise_hub.hub import Hub
from edgewise_hub.registry import versions
from edgewise_hub.registry.tables import BundleBlob

from .conftest import OTHER_PROFILE, PROFILE, add_version


def put(api: TestClient, data: bytes) -> str:
    """Upload a blob; its sha256."""
    sha256 = hashlib.sha256(data).hexdigest()
    assert api.put(f"/api/v1/blobs/{sha256}", content=data).status_code == 204
    return sha256


def test_a_blob_larger_than_a_body_is_streamed_and_kept(hub: Hub, api: TestClient) -> None:
    data = bytes(range(256)) * 12_000
    sha256 = put(api, data)
    assert hub.blobs.read(sha256) == data
    assert api.head(f"/api/v1/blobs/{sha256}").status_code == 200
    assert api.head(f"/api/v1/blobs/{'0' * 64}").status_code == 404


def test_a_blob_that_is_not_its_digest_is_refused_and_leaves_nothing(hub: Hub, api: TestClient) -> None:
    response = api.put(f"/api/v1/blobs/{'0' * 64}", content=b"something else")
    assert (response.status_code, response.json()["code"]) == (422, "bad-blob")
    assert list(hub.blobs.folder.iterdir()) == []
    assert api.put("/api/v1/blobs/..%2f..%2fhub.db", content=b"").status_code in (404, 405, 422)


def test_versions_are_numbered_by_model_and_name_blobs_that_are_here(api: TestClient) -> None:
    source = {"kind": "onnx", "model": put(api, b"model"), "data": put(api, b"data")}
    missing = api.post("/api/v1/models/digits/versions", json={"source": {**source, "data": "0" * 64}})
    assert (missing.status_code, missing.json()["code"]) == (422, "no-blob")
    assert api.get("/api/v1/models/digits").status_code == 404, "a refused version makes no model"
    numbers = [
        api.post(f"/api/v1/models/{model}/versions", json={"source": source, "note": "n"}).json()["version"]
        for model in ("digits", "digits", "faces")
    ]
    assert numbers == [1, 2, 1]
    listed = api.get("/api/v1/models/digits/versions").json()["items"]
    assert [(row["version"], row["source"], row["bundles"]) for row in listed] == [(2, source, []), (1, source, [])]
    assert [row["name"] for row in api.get("/api/v1/models").json()["items"]] == ["digits", "faces"]
    assert api.get("/api/v1/models/digits/versions/3").status_code == 404


def test_a_bundle_is_its_signed_manifest_and_all_of_its_blobs_may_be_fetched(
    hub: Hub, api: TestClient, tmp_path: Path
) -> None:
    (bundle,) = add_version(hub, tmp_path)
    envelope = hub.blobs.read(bundle.digest)
    manifest = unseal(envelope, Manifest, lambda keyid, _sig, _payload: keyid == hub.signer.public.keyid)
    with hub.database.read() as session:
        rows = session.query(BundleBlob).all()
        assert versions.find_bundle(session, hub, "digits", 1, PROFILE) is not None
        assert versions.find_bundle(session, hub, "digits", 1, OTHER_PROFILE) is None
    blobs = {row.role: row.sha256 for row in rows}
    assert blobs == {role: blob.sha256 for role, blob in manifest.blobs.items()} | {"manifest": bundle.digest}
    assert all(sha256 in hub.blobs for sha256 in blobs.values())
    assert bundle.reference in hub.blobs and bundle.reference not in blobs.values(), "the reference stays on the hub"
    assert (bundle.size, bundle.total_size) == (len(envelope), sum(row.size for row in rows))
    assert api.get(f"/api/v1/bundles/{bundle.digest}").json()["profile"] == PROFILE
    assert api.get("/api/v1/models/digits/versions/1").json()["bundles"][0]["digest"] == bundle.digest


def test_a_bundle_whose_file_is_not_what_its_manifest_names_is_refused(hub: Hub, tmp_path: Path) -> None:
    (bundle,) = add_version(hub, tmp_path)
    manifest = unseal(hub.blobs.read(bundle.digest), Manifest, lambda *_: True)
    files = {role: tmp_path / f"digits-1-{PROFILE}-{role}" for role in manifest.blobs}
    files["model"].write_bytes(b"other bytes")
    with hub.database.write() as session, pytest.raises(BundleError, match="blob model: expected sha256"):
        versions.add_bundle(session, hub, manifest, files, tmp_path / "reference.npz", {}, 3.0)
    del files["model"]
    with hub.database.write() as session, pytest.raises(BundleError, match="expected files"):
        versions.add_bundle(session, hub, manifest, files, tmp_path / "reference.npz", {}, 3.0)


def test_profiles_are_listed(api: TestClient) -> None:
    assert PROFILE in [row["name"] for row in api.get("/api/v1/profiles").json()["items"]]


def wheel(**files: str) -> bytes:
    """A zip with these files; ``__`` stands for a slash."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/", 1) + ".py", text)
    return data.getvalue()


SDK, AGENT = wheel(edgewise____init__=""), wheel(edgewise_agent__main="")


def test_a_release_of_the_agent_is_a_version_with_a_signed_bundle_for_every_profile(hub: Hub, api: TestClient) -> None:
    wheels = [put(api, SDK), put(api, AGENT)]
    made = api.post("/api/v1/models/edgewise-agent/versions", json={"source": {"kind": "agent", "wheels": wheels}})
    assert made.status_code == 201 and made.json()["version"] == 1
    bundles = {bundle["profile"]: bundle["digest"] for bundle in made.json()["bundles"]}
    assert bundles.keys() == hub.profiles.keys()
    manifest = unseal(
        hub.blobs.read(bundles[PROFILE]), Manifest, lambda keyid, _s, _p: keyid == hub.signer.public.keyid
    )
    assert (manifest.model, manifest.runtime, manifest.profile) == ("edgewise-agent", "agent", PROFILE)
    assert [manifest.blobs[role].sha256 for role in sorted(manifest.blobs)] == wheels
    with hub.database.read() as session:
        rows = session.query(BundleBlob).filter(BundleBlob.bundle == bundles[PROFILE]).all()
    assert {row.role for row in rows} == {"manifest", "wheel-0", "wheel-1"}


@pytest.mark.parametrize(
    ("model", "source", "code"),
    [
        ("digits", {"kind": "agent", "wheels": [SDK, AGENT]}, "reserved-model"),
        ("edgewise-agent", {"kind": "onnx", "model": SDK, "data": SDK}, "reserved-model"),
        ("edgewise-agent", {"kind": "agent", "wheels": [SDK]}, "bad-wheel"),
        ("edgewise-agent", {"kind": "agent", "wheels": [SDK, b"no zip"]}, "bad-wheel"),
        ("edgewise-agent", {"kind": "agent", "wheels": []}, "invalid-request"),
    ],
)
def test_what_is_no_release_is_refused(api: TestClient, model: str, source: dict[str, Any], code: str) -> None:
    sent = {k: put(api, v) if isinstance(v, bytes) else v for k, v in source.items()}
    sent |= {"wheels": [put(api, data) for data in source["wheels"]]} if "wheels" in source else {}
    answer = api.post(f"/api/v1/models/{model}/versions", json={"source": sent})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert api.get(f"/api/v1/models/{model}").status_code == 404
