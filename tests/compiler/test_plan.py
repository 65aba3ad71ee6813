"""The plan: shared steps once, everything there when it is needed, impossible requests refused first."""

from __future__ import annotations

import msgspec
import pytest

from edgewise.profile import Profile, Quantization
from edgewise_compiler.errors import CompileError
from edgewise_compiler.plan import Step, check, plan


def profile(name: str, architecture: str = "x86_64", **fields: object) -> Profile:
    made = Profile(schema=1, name=name, title=name, architecture=architecture, runtime="onnxruntime")
    return msgspec.structs.replace(made, **fields)


def test_two_profiles_share_export_calibration_and_schemes() -> None:
    steps = plan([profile("a"), profile("b", "aarch64")], runtimes=["onnxruntime"], machine="x86_64")

    kinds = [step.kind for step in steps]
    assert [kinds.count(kind) for kind in ("export", "prepare", "calibrate", "quantize", "answer")] == [1, 1, 1, 2, 3]
    assert [step.title for step in steps if step.kind in ("measure", "bundle")] == ["measure a", "bundle a", "bundle b"]
    # fp32 is judged before anything is spent on quantizing it.
    assert kinds.index("answer") < kinds.index("calibrate")
    check(steps)


def test_only_asked_for_schemes_are_made() -> None:
    only = profile("a", quantization=Quantization(schemes=["s8s8"]))
    steps = plan([only], runtimes=["onnxruntime"], machine="aarch64")

    assert [step.target for step in steps if step.kind == "quantize"] == ["s8s8"]
    assert "measure" not in [step.kind for step in steps]


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        ([], "at least one device profile"),
        ([profile("a"), profile("a")], "each device profile once, got a twice"),
        ([profile("a", runtime="litert")], "'a': runtime: expected one of onnxruntime, got 'litert'"),
        ([profile("a", quantization=Quantization(schemes=[]))], "schemes: expected at least one"),
    ],
)
def test_what_cannot_work_is_refused(profiles: list[Profile], message: str) -> None:
    with pytest.raises(CompileError, match=message) as refused:
        plan(profiles, runtimes=["onnxruntime"], machine="x86_64")
    assert refused.value.code == "cannot-plan"


def test_a_step_before_what_it_needs_is_named() -> None:
    with pytest.raises(CompileError, match="'quantize u8s8' needs ranges"):
        check([Step("quantize", "u8s8", ("source", "ranges"), "u8s8")])
