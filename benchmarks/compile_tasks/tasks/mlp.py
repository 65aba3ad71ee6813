"""An MLP 16-128-26 on LetterRecognition (Frey and Slate, 1991): letters from 16 numbers.

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

CLASSES = [chr(ord("A") + letter) for letter in range(26)]
METRIC = "accuracy"


class Mlp(nn.Module):
    """float32 [n, 16] -> scores [n, 26] and embedding [n, 128]."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(16, 128), nn.ReLU())
        self.head = nn.Linear(128, len(CLASSES))

    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.hidden(input)
        return self.head(embedding), embedding


def build(config: Config) -> nn.Module:
    """5,530 parameters; ``config`` changes nothing."""
    return Mlp()


def load(split: str, config: Config) -> tuple[Array, Array]:
    """Numbers float32 [n, 16], centred and scaled, and labels int64 [n]."""
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
    batch, epochs = int(config.get("batch", 128)), int(config.get("epochs", 60))
    steps = -(-len(x) // batch) * epochs
    rate = float(config.get("learning_rate", 1e-2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-4)
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
