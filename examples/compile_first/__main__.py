"""Trains a small network on scikit-learn's handwritten digits, exports it, and compiles it for three kinds of device.

``python -m examples.compile_first``: about a minute on one processor, nothing is downloaded. docs/guides has the story.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from torch import nn

PROFILES = ("linux-x86-64", "raspberry-pi-5", "browser-wasm")
BUDGET = "latency=0.7x,size=0.3x,drop=0.01"
TRAIN, CALIBRATE, EPOCHS, BATCH = 1200, 256, 5, 32
SEED = 0


class Net(nn.Module):
    """float [n, 1, 24, 24] in 0..1 -> scores [n, 10] and embedding [n, 48]: 167,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(48, 96, 3, padding=1), nn.BatchNorm2d(96), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(96, 96, 3, padding=1), nn.BatchNorm2d(96), nn.ReLU(), nn.AdaptiveAvgPool2d(3),
            nn.Flatten(), nn.Linear(864, 48), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(48, 10)

    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.features(input)
        return self.head(embedding), embedding


def digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """1,797 digits, shuffled: float32 [n, 1, 24, 24] in 0..1 (each of the 8x8 dots three wide), labels int64 [n]."""
    images, labels = load_digits(return_X_y=True)
    rows = np.random.default_rng(SEED).permutation(len(images))
    large = np.kron(images[rows].reshape(-1, 1, 8, 8) / 16, np.ones((3, 3)))
    return large.astype(np.float32), labels[rows].astype(np.int64)


def train(inputs: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Net:
    """A net trained on digits."""
    torch.manual_seed(SEED)
    net, x, y = Net(), torch.from_numpy(inputs), torch.from_numpy(labels)
    steps = EPOCHS * (len(x) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x))[: len(x) // BATCH * BATCH].view(-1, BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows])[0], y[rows]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def make(folder: Path) -> tuple[Path, Path]:
    """Write ``digits.onnx`` and ``digits.npz``: what ``edgewise compile`` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    model, data = folder / "digits.onnx", folder / "digits.npz"
    inputs, labels = digits()
    net = train(inputs[:TRAIN], labels[:TRAIN])
    # The exporter warns that it has no torchvision, which this net does not use.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.onnx.export(
        net,
        (torch.from_numpy(inputs[:2]),),
        str(model),
        input_names=["input"],
        output_names=["scores", "embedding"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    arrays: dict[str, Any] = {
        "reference/input": inputs[TRAIN:],
        "reference/labels": labels[TRAIN:],
        "calibrate/input": inputs[:CALIBRATE],
        "train/input": inputs[:TRAIN],
        "train/labels": labels[:TRAIN],
        "class_names": np.array([str(digit) for digit in range(10)]),
    }
    np.savez(data, **arrays)
    return model, data


def main() -> int:
    """Returns the exit status of ``edgewise compile``."""
    parser = argparse.ArgumentParser(prog="python -m examples.compile_first", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("compiled"), help="the folder that everything goes to")
    parser.add_argument("--budget", default=BUDGET)
    chosen = parser.parse_args()
    model, data = make(chosen.out)
    profiles = [part for name in PROFILES for part in ("--profile", name)]
    command = [
        "compile",
        str(model),
        *profiles,
        "--data",
        str(data),
        "--budget",
        chosen.budget,
        "--out",
        str(chosen.out),
    ]
    print("edgewise", *command, flush=True)
    return subprocess.run([str(Path(sys.executable).with_name("edgewise")), *command], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
