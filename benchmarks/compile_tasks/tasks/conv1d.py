"""A Conv1D net on a watch's motion: which of 7 shoulder exercises? Subjects are held out.

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

CLASSES = ["pendulum", "abduction", "forward elevation", "internal rotation", "external rotation", "trapezius", "row"]
METRIC = "accuracy"


class Conv1dNet(nn.Module):
    """float32 [n, 6, 128] (axes, samples at 50 Hz) -> scores [n, 7] and embedding [n, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(6, 32, 5, padding=2, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(32, 64, 5, padding=2, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(64, 64, 5, padding=2, bias=False), nn.BatchNorm1d(64), nn.ReLU(),
        )  # fmt: skip
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(64, len(CLASSES))

    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.features(input).mean(dim=2)
        return self.head(self.dropout(embedding)), embedding


def build(config: Config) -> nn.Module:
    """33,000 parameters or so; ``config`` changes nothing."""
    return Conv1dNet()


def load(split: str, config: Config) -> tuple[Array, Array]:
    """Windows float32 [n, 6, 128], centred and scaled, and labels int64 [n]."""
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
    batch, epochs = int(config.get("batch", 64)), int(config.get("epochs", 8))
    steps = -(-len(x) // batch) * epochs
    rate = float(config.get("learning_rate", 4e-3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
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
