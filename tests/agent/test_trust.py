"""Trust: each refusal, by its code; and what survives it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from agent_builders import DEVICE, MODEL, PROFILE, TENANT, HubKey, identity, make_bundle, make_desired

from edgewise.bundle import seal
from edgewise.errors import EdgewiseError
from edgewise.wire.control import Desired
from edgewise_agent import trust
from edgewise_agent.identity import verifier
from edgewise_agent.trust import TrustState

NOW = 1_000_000.0


def accept(
    key: HubKey, envelope: bytes, state: TrustState | None = None, clock: float = NOW
) -> tuple[Desired, TrustState]:
    return trust.accept(
        envelope,
        tenant=TENANT,
        device=DEVICE,
        profile=PROFILE,
        verify=verifier(identity(key).keys),
        state=state or TrustState(),
        clock=clock,
    )


def sealed(key: HubKey, generation: int = 1, release: int = 1, **changes: Any) -> bytes:
    return seal(make_desired(generation, make_bundle(key, release), now=NOW, **changes), key.sign)


def test_accepts_and_remembers(key: HubKey) -> None:
    envelope = sealed(key, 3, floor=1)
    desired, state = accept(key, envelope)
    assert desired.generation == state.generation == 3
    assert (state.envelope, state.signed_time, state.floors) == (envelope, NOW, {MODEL: 1})
    again, same = accept(key, envelope, state)
    assert again == desired and same is state


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("other-device", {"device": "cam-2"}),
        ("other-device", {"tenant": "else"}),
        ("other-profile", {"profile": "raspberry-pi-5"}),
        ("expired", {"not_after": NOW - 1}),
        ("old-generation", {"generation": 2}),
        ("same-generation", {"generation": 3, "issued_at": NOW + 1}),
        ("bad-schema", {"schema": 2}),
    ],
)
def test_refuses(key: HubKey, code: str, changes: dict[str, Any]) -> None:
    _, state = accept(key, sealed(key, 3))
    with pytest.raises(EdgewiseError) as refused:
        accept(key, sealed(key, **{"generation": 4, **changes}), state)
    assert refused.value.code == code


def test_refuses_another_key_and_changed_bytes(key: HubKey) -> None:
    for envelope in (sealed(HubKey()), sealed(key).replace(b'"generation":1', b'"generation":9')):
        with pytest.raises(EdgewiseError) as refused:
            accept(key, envelope)
        assert refused.value.code == "bad-signature"
    with pytest.raises(EdgewiseError) as refused:
        accept(key, b"{}")
    assert refused.value.code == "bad-envelope"


def test_turning_the_clock_back_revives_nothing(key: HubKey) -> None:
    _, state = accept(key, sealed(key, 1))
    old = sealed(key, 2, not_after=NOW - 1, issued_at=NOW - 100, not_before=NOW - 200)
    with pytest.raises(EdgewiseError) as refused:
        accept(key, old, state, clock=NOW - 50)
    assert refused.value.code == "expired"


def test_floor_only_rises(key: HubKey) -> None:
    _, state = accept(key, sealed(key, 1, release=5, floor=4))
    with pytest.raises(EdgewiseError) as refused:
        accept(key, sealed(key, 2, release=3, floor=0), state)
    assert refused.value.code == "below-floor"
    assert accept(key, sealed(key, 2, release=4, floor=0), state)[1].floors == {MODEL: 4}


def test_force_is_bounded_in_time(key: HubKey) -> None:
    desired, state = accept(key, sealed(key, 1, not_before=NOW + 10, not_after=NOW + 20))
    assert [trust.may_act(desired, state, NOW + t) for t in (0, 10, 20, 21)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("code", "bundle", "duty"),
    [
        ("other-profile", {"profile": "raspberry-pi-5"}, {}),
        ("bad-bundle", {"tenant": "else"}, {}),
        ("bad-bundle", {"model": "cats"}, {}),
        ("bad-bundle", {}, {"version": 9}),
        ("bad-bundle", {}, {"release": 9}),
        ("unknown-runtime", {"runtime": "abacus"}, {}),
        ("bad-blob", {}, {"bundle": "0" * 64}),
        ("below-floor", {"version": 1}, {}),
    ],
)
def test_refuses_manifest(key: HubKey, code: str, bundle: dict[str, Any], duty: dict[str, Any]) -> None:
    made = make_bundle(key, **{"version": 2, **bundle})
    with pytest.raises(EdgewiseError) as refused:
        trust.check_manifest(
            made.blobs[made.digest],
            msgspec.structs.replace(made.duty, **duty),
            tenant=TENANT,
            model=MODEL,
            profile=PROFILE,
            runtimes={"onnxruntime"},
            floor=2,
            verify=verifier([key.public]),
        )
    assert refused.value.code == code


def test_refuses_manifest_by_another_key(key: HubKey) -> None:
    made = make_bundle(HubKey(), 2)
    with pytest.raises(EdgewiseError) as refused:
        trust.check_manifest(
            made.blobs[made.digest],
            made.duty,
            tenant=TENANT,
            model=MODEL,
            profile=PROFILE,
            runtimes={"onnxruntime"},
            floor=0,
            verify=verifier([key.public]),
        )
    assert refused.value.code == "bad-signature"
