"""DS-CNN-48 on spoken digits: depthwise-separable convolutions over MFCCs, as in Zhang et al. 2017 (arXiv:1711.07128).

The split is random, so speakers are on both sides. ``config``: ``data`` (folder with the splits as npz), ``epochs``,
``batch``, ``learning_rate``.
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

CLASSES = [str(digit) for digit in range(10)]
METRIC = "accuracy"
WIDTH = 48


def _separable(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
    )  # fmt: skip


class DsCnn(nn.Module):
    """float32 [n, 1, 32, 13] (frames, MFCCs) -> scores [n, 10] and embedding [n, 48]."""

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(1, WIDTH, 5, (2, 1), 2, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.features = nn.Sequential(stem, *(_separable(WIDTH) for _ in range(3)))
        self.head = nn.Linear(WIDTH, len(CLASSES))

    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = nn.functional.adaptive_avg_pool2d(self.features(input), 1).flatten(1)
        return self.head(embedding), embedding


def build(config: Config) -> nn.Module:
    """10,700 parameters or so; ``config`` changes nothing."""
    return DsCnn()


def load(split: str, config: Config) -> tuple[Array, Array]:
    """MFCCs float32 [n, 1, 32, 13], centred and scaled, and labels int64 [n]."""
    with np.load(Path(config["data"]) / f"{split}.npz", allow_pickle=False) as data:
        return data["inputs"], data["labels"]


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
    batch, epochs = int(config.get("batch", 64)), int(config.get("epochs", 30))
    steps = -(-len(x) // batch) * epochs
    rate = float(config.get("learning_rate", 1e-2))
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
