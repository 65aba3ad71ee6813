"""ResNet-8 on Fashion-MNIST: a small residual CNN, MLPerf-Tiny-shaped (whose own net reads 32x32x3).

``config``: ``data`` (folder with the splits as npz), ``epochs``, ``batch``, ``learning_rate``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Array = npt.NDArray[Any]
Config = dict[str, Any]

CLASSES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
METRIC = "accuracy"


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, as in He et al. 2015 (arXiv:1512.03385); 1x1 where the shape changes."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside),
        )  # fmt: skip
        changes = stride != 1 or inside != outside
        self.shortcut = nn.Conv2d(inside, outside, 1, stride) if changes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.path(x) + self.shortcut(x))


class ResNet8(nn.Module):
    """float32 [n, 1, 28, 28] in 0..1 -> scores [n, 10] and embedding [n, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.head = nn.Linear(64, len(CLASSES))

    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = nn.functional.adaptive_avg_pool2d(self.blocks(self.stem(input)), 1).flatten(1)
        return self.head(embedding), embedding


def build(config: Config) -> nn.Module:
    """77,600 parameters or so; ``config`` changes nothing."""
    return ResNet8()


def load(split: str, config: Config) -> tuple[Array, Array]:
    """Pictures float32 [n, 1, 28, 28] in 0..1 and labels int64 [n]."""
    with np.load(Path(config["data"]) / f"{split}.npz", allow_pickle=False) as data:
        return data["inputs"].astype(np.float32) / 255, data["labels"]


def train(
    model: nn.Module,
    inputs: Array,
    labels: Array,
    config: Config,
    *,
    seed: int,
    weights: Array | None = None,
    progress: Callable[[float, str], None],
) -> nn.Module:
    """AdamW on cross-entropy, with a one-cycle rate. ``weights`` float [n]: how much each item counts."""
    torch.manual_seed(seed)
    x, y = torch.from_numpy(np.ascontiguousarray(inputs)), torch.from_numpy(np.asarray(labels, np.int64))
    w = torch.ones(len(x)) if weights is None else torch.from_numpy(np.asarray(weights, np.float32))
    batch, epochs = int(config.get("batch", 128)), int(config.get("epochs", 5))
    steps = -(-len(x) // batch) * epochs
    rate = float(config.get("learning_rate", 6e-3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=0.2)
    model.train()
    step = 0
    for epoch in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):
            scores, _ = model(x[rows])
            losses = nn.functional.cross_entropy(scores, y[rows], reduction="none")
            loss = (losses * w[rows]).sum() / w[rows].sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            if step % 50 == 0 or step == steps:
                progress(step / steps, f"epoch {epoch + 1} of {epochs}, loss {loss.item():.3f}")
    return model.eval()


def evaluate(predict: Callable[[Array], Array], inputs: Array, labels: Array) -> dict[str, float]:
    """Share of items whose highest score is the label's."""
    return {"accuracy": float(np.mean(predict(inputs).argmax(axis=1) == labels))}
