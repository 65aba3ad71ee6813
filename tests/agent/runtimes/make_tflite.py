"""Makes ``network.tflite`` anew. Not run by the tests: litert-torch has an environment of its own.

``python tests/agent/runtimes/make_tflite.py``, where litert-torch 0.10.0 is installed.
"""

from __future__ import annotations

from pathlib import Path

import litert_torch
import torch
from small_network import SIDE, weights


class Network(torch.nn.Module):
    """The network of ``runtime_models``."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.first, self.second = torch.nn.Linear(64, 8), torch.nn.Linear(8, 3)
        w = {name: torch.from_numpy(array) for name, array in weights().items()}
        with torch.no_grad():
            for layer, kernel, bias in (
                (self.convolution, w["wc"], w["bc"]),
                (self.first, w["w1"].T, w["b1"]),
                (self.second, w["w2"].T, w["b2"]),
            ):
                layer.weight.copy_(kernel)
                layer.bias.copy_(bias)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        embedding = torch.tanh(self.first(torch.relu(self.convolution(image)).flatten(1)))
        return {"scores": self.second(embedding), "embedding": embedding}


if __name__ == "__main__":
    example = {"image": torch.zeros(1, 1, SIDE, SIDE)}
    made = litert_torch.convert(Network().eval(), sample_kwargs=example)
    made.export(str(Path(__file__).parent / "network.tflite"))
