"""ONNX -> ExecuTorch in its own environment, checked with ExecuTorch's runtime there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgewise_compiler.toolchains import executorch
from edgewise_compiler.toolchains.executorch import Check, Job

from .conftest import OUTPUTS, Net, snr

pytestmark = [pytest.mark.toolchain, pytest.mark.slow]


@pytest.mark.parametrize("kind", ["cnn", "conv1d", "mlp"])
def test_both_modes_answer_as_the_source(kind: str, net: Callable[[str], Net], tmp_path: Path) -> None:
    made, sizes = net(kind), {}
    for mode, least in (("fp32", 100.0), ("int8", 20.0)):
        out = tmp_path / f"{mode}.pte"
        job = Job(model=made.path, out=out, mode=mode, inputs=made.inputs, calibration=made.calibration)  # type: ignore[arg-type]
        executorch.convert(job, lambda fraction, text: None)
        check = Check(
            model=out,
            data=made.calibration,
            out=tmp_path / "answers.npz",
            inputs=made.inputs,
            outputs=OUTPUTS,
            runs=3,
        )
        verified = executorch.verify(check, lambda fraction, text: None)
        assert len(verified.seconds) == 3 and min(verified.seconds) > 0
        with np.load(check.out) as answers:
            for name in OUTPUTS:
                assert snr(made.answers[name], answers[name]) > least, (mode, name)
        sizes[mode] = out.stat().st_size
    assert sizes["int8"] < 0.7 * sizes["fp32"]
