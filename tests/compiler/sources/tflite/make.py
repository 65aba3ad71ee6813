"""How the .tflite files beside this script were made: a small picture net, channels last, by litert-torch.

Run with a Python that has litert-torch 0.10.0 and ai-edge-quantizer 0.10.0 (an environment of its own):
``python make.py FOLDER``. Pictures in, 5 scores out:

- ``net_fp32``; ``net_fp16``: weights through DEQUANTIZE; ``net_dynamic``: int8 weights, float activations;
- ``net_int8``: static, per channel, int8 in and out; ``net_16x8``: int16 activations, int8 weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import litert_torch
import numpy as np
import torch
from ai_edge_quantizer import qtyping, quantizer, recipe
from litert_torch import to_channel_last_io
from torch import nn


class Net(nn.Module):
    """float [1, 3, 16, 16] -> scores [1, 5]: conv, depthwise, residual, pool, dense."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point = nn.Conv2d(8, 8, 1)
        self.wide = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = x + torch.nn.functional.hardtanh(self.point(self.depth(x)), 0.0, 6.0)
        x = torch.nn.functional.max_pool2d(torch.relu(self.wide(x)), 2)
        return torch.softmax(self.head(x.mean((2, 3))), 1)


def main(folder: Path) -> None:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    net = to_channel_last_io(Net().eval(), args=[0])
    fp32 = folder / "net_fp32.tflite"
    litert_torch.convert(net, (torch.zeros(1, 16, 16, 3),)).export(str(fp32))
    items = [{"args_0": random.uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)} for _ in range(32)]
    data = {"serving_default": items}

    def quantize(name: str, steps: list[dict[str, object]], calibrate: bool) -> None:
        work = quantizer.Quantizer(str(fp32), steps)
        found = work.quantize(work.calibrate(data) if calibrate else None)
        found.export_model(str(folder / name), overwrite=True)

    quantize("net_int8.tflite", recipe.static_wi8_ai8(), True)
    quantize("net_16x8.tflite", recipe.static_wi8_ai16(), True)
    quantize("net_dynamic.tflite", recipe.dynamic_wi8_afp32(), False)
    work = quantizer.Quantizer(str(fp32))
    work.add_weight_only_config(
        regex=".*", operation_name=qtyping.TFLOperationName.ALL_SUPPORTED, num_bits=16, algorithm_key="float_casting"
    )
    work.quantize().export_model(str(folder / "net_fp16.tflite"), overwrite=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
