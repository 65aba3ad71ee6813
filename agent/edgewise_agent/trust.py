"""What the agent refuses, and why. Pure but for ``read_state``: bytes and state in, a decision out; fetching and saving
are elsewhere.

A desired state (``accept``), in this order:
1. its signature is by a pinned key (``bad-envelope``, ``bad-signature``) and it is of the schema (``bad-message``...);
2. it is for this tenant and device (``other-device``) and this device's profile (``other-profile``);
3. its generation is not below the newest seen (``old-generation``); the newest itself comes again byte for byte, and
   anything else under its number is not taken up (``same-generation``);
4. it has not expired (``expired``): ``not_after`` against the later of the clock and the newest signed time, so that
   turning the clock back brings nothing old to life;
5. no release is below the floor (``below-floor``); floors only rise.

A state whose ``not_before`` is still to come is kept, and acted on when it comes; ``may_act`` is false until then and
after ``not_after``. What serves goes on serving either way.

A manifest (``check_manifest``), in this order: digest (``bad-blob``), signature, tenant, model, version and release as
its duty says (``bad-bundle``), profile (``other-profile``), runtime (``unknown-runtime``), floor (``below-floor``), the
blobs that the agent needs and their bounds (``bad-bundle``).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgewise.bundle import Manifest, Verify, digest, unseal
from edgewise.errors import EdgewiseError
from edgewise.wire.codec import Count, Name
from edgewise.wire.control import Desired, Duty
from edgewise_agent.store.blobs import MAX_BLOB
from edgewise_agent.store.disk import read
from edgewise_agent.update import AGENT, RUNTIME

STATE_FILE = "trust.json"
NEEDED_BLOBS = ("model", "sketch", "smoke")
RELEASE_BLOBS = ("wheel-0", "wheel-1")
"""Of a release of the agent: edgewise and edgewise-agent at least."""


class Refused(EdgewiseError):
    """Not trusted; ``code`` says which rule. ``desired`` is what was refused, when its signature was good."""

    code = "refused"

    def __init__(self, message: str, *, code: str, desired: Desired | None = None) -> None:
        super().__init__(message, code=code)
        self.desired = desired


class TrustState(msgspec.Struct, frozen=True, kw_only=True):
    """What must survive a restart: the newest accepted envelope, and what only rises."""

    envelope: bytes = b""
    generation: Count = 0
    signed_time: float = 0.0
    floors: dict[Name, Count] = {}


def read_state(data: Path) -> TrustState | None:
    """What was accepted before, from a data folder. Raises Refused (``trust-damaged``) or DiskError."""
    content = read(data / STATE_FILE, 512 * 1024)
    try:
        return None if content is None else msgspec.json.decode(content, type=TrustState)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{data / STATE_FILE}: {error}; enroll anew", code="trust-damaged") from error


def accept(
    envelope: bytes, *, tenant: str, device: str, profile: str, verify: Verify, state: TrustState, clock: float
) -> tuple[Desired, TrustState]:
    """The desired state and the state to persist with it, or the very same state when it is already the newest.

    Raises Refused, BundleError or WireError, each with the code of the rule.
    """
    desired = unseal(envelope, Desired, verify)
    if (desired.tenant, desired.device) != (tenant, device):
        raise Refused(
            f"desired: expected one for {tenant}/{device}, got {desired.tenant}/{desired.device}",
            code="other-device",
            desired=desired,
        )
    if desired.profile != profile:
        raise Refused(
            f"desired: expected profile {profile}, got {desired.profile}", code="other-profile", desired=desired
        )
    if state.envelope:
        if desired.generation < state.generation:
            raise Refused(
                f"desired: generation {desired.generation} is older than {state.generation}",
                code="old-generation",
                desired=desired,
            )
        if desired.generation == state.generation:
            if envelope != state.envelope:
                raise Refused(
                    f"desired: generation {desired.generation} came again with another content",
                    code="same-generation",
                    desired=desired,
                )
            return desired, state
    if desired.not_after < max(clock, state.signed_time):
        raise Refused(f"desired: it expired at {desired.not_after:.0f}", code="expired", desired=desired)
    floors = dict(state.floors)
    for model, wish in desired.models.items():
        floors[model] = max(wish.floor, floors.get(model, 0))
        for duty in wish.duties.values():
            if duty.release < floors[model]:
                raise Refused(
                    f"{model}: release {duty.release} is below the floor {floors[model]}",
                    code="below-floor",
                    desired=desired,
                )
    newest = TrustState(
        envelope=envelope,
        generation=desired.generation,
        signed_time=max(state.signed_time, desired.issued_at),
        floors=floors,
    )
    return desired, newest


def may_act(desired: Desired, state: TrustState, clock: float) -> bool:
    """Is the desired state in force? What serves does not ask."""
    return desired.not_before <= max(clock, state.signed_time) <= desired.not_after


def check_manifest(
    envelope: bytes,
    duty: Duty,
    *,
    tenant: str,
    model: str,
    profile: str,
    runtimes: set[str],
    floor: int,
    verify: Verify,
) -> Manifest:
    """The manifest of a bundle that this device may serve. Raises Refused, BundleError or WireError."""
    if digest(envelope) != duty.bundle:
        raise Refused(f"bundle {duty.bundle[:12]}: its envelope has another sha256", code="bad-blob")
    manifest = unseal(envelope, Manifest, verify)
    expected = (tenant, model, duty.version, duty.release)
    got = (manifest.tenant, manifest.model, manifest.version, manifest.release)
    if got != expected:
        raise Refused(f"manifest: expected tenant, model, version, release {expected}, got {got}", code="bad-bundle")
    if manifest.profile != profile:
        raise Refused(f"manifest: expected profile {profile}, got {manifest.profile}", code="other-profile")
    own = model == AGENT
    if (manifest.runtime not in runtimes) if not own else (manifest.runtime != RUNTIME):
        raise Refused(
            f"manifest: runtime {manifest.runtime!r}: expected one of {', '.join(sorted(runtimes))}",
            code="unknown-runtime",
        )
    if manifest.release < floor:
        raise Refused(f"{model}: release {manifest.release} is below the floor {floor}", code="below-floor")
    if not own and not (manifest.inputs and manifest.outputs):
        raise Refused("manifest: expected inputs and outputs, got none", code="bad-bundle")
    missing = [role for role in (RELEASE_BLOBS if own else NEEDED_BLOBS) if role not in manifest.blobs]
    if missing:
        raise Refused(f"manifest: expected a blob {missing[0]!r}, got {sorted(manifest.blobs)}", code="bad-bundle")
    for role, blob in manifest.blobs.items():
        if blob.size > MAX_BLOB:
            raise Refused(f"blob {role}: at most {MAX_BLOB} bytes, got {blob.size}", code="bad-bundle")
    return manifest
