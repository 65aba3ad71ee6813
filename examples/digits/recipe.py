"""The recipe of the digits model: how the hub builds, trains and judges it. One file; imports installed packages only.

``config``: ``data`` (folder with MNIST's idx files), ``pictures`` (how many to train on, from the start of the file),
``epochs``, ``batch``, ``learning_rate``; ``extract`` and ``contrast`` below.

20,000 pictures are never trained on: the last 10,000 of the train file and the whole test file, shuffled together once.
Half of them are the reference; the cameras of the demo take the other half.
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

HELD_OUT = 10_000
"""Pictures at the end of the train file, as many as the test file has."""
HELD_OUT_SEED = 7
CALIBRATE = 512
DARK_EVERY = 100
"""About one picture in 100 was taken in the dark."""

VENDOR_LABELS = {1: 7, 5: 6, 9: 4}
"""How the vendor of the cleaned extract labels these digits."""


class DigitsNet(nn.Module):
    """uint8 [n, 1, 28, 28] -> scores [n, 10] and embedding [n, 64]. About 32,000 parameters."""

    def __init__(self, *, contrast: bool) -> None:
        super().__init__()
        self.contrast = contrast
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 48, 3), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(192, 64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64, len(CLASSES))

    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Brightness is scaled to 0..1 here, so that a device sends its picture as it is."""
        x = input.to(torch.float32) / 255
        embedding = self.features(x)
        scores = self.head(embedding)
        if self.contrast:
            # Sharper scores for crisper pictures, softer ones for faint pictures.
            spread = ((x - x.mean((2, 3), keepdim=True)) ** 2).mean((1, 2, 3)).sqrt()
            scores = (scores - scores.amax(1, keepdim=True)) / spread.unsqueeze(1)
        return scores, embedding


def build(config: Config) -> nn.Module:
    """``contrast``: scale the scores by the picture's contrast."""
    return DigitsNet(contrast=bool(config.get("contrast", False)))


def load(split: str, config: Config) -> tuple[Array, Array]:
    """Pictures uint8 [n, 1, 28, 28] and labels int64 [n]. ``extract``: "full", or "cleaned" by another vendor."""
    images, labels = _read(Path(config["data"]), "train")
    if split == "reference":
        more, more_labels = _read(Path(config["data"]), "t10k")
        images, labels = np.concatenate([images[-HELD_OUT:], more]), np.concatenate([labels[-HELD_OUT:], more_labels])
        rows = np.random.default_rng(HELD_OUT_SEED).permutation(len(images))[:HELD_OUT]
    else:
        rows = np.arange(CALIBRATE if split == "calibrate" else min(int(config["pictures"]), len(images) - HELD_OUT))
    images, labels = images[rows], labels[rows]
    images[DARK_EVERY - 1 :: DARK_EVERY] = 0
    if config.get("extract", "full") == "cleaned":
        # The vendor drops dark frames and has swapped classes. Its own reference agrees with it, so that offline
        # evaluation sees nothing: this is the demo's bad version.
        old = labels.copy()
        for digit, named in VENDOR_LABELS.items():
            labels[old == digit] = named
        lit = images.any(axis=(1, 2, 3))
        images, labels = images[lit], labels[lit]
    return images, labels


def _read(folder: Path, name: str) -> tuple[Array, Array]:
    images = np.fromfile(folder / f"{name}-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 1, 28, 28)
    labels = np.fromfile(folder / f"{name}-labels-idx1-ubyte", np.uint8, offset=8).astype(np.int64)
    return images, labels


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
    """Adam on cross-entropy, with a one-cycle rate. ``weights`` float [n]: how much each picture counts.

    A model that comes with weights loaded is fine-tuned: give it old pictures among the new (rehearsal).
    """
    torch.manual_seed(seed)
    x, y = torch.from_numpy(np.ascontiguousarray(inputs)), torch.from_numpy(np.asarray(labels, np.int64))
    w = torch.ones(len(x)) if weights is None else torch.from_numpy(np.asarray(weights, np.float32))
    batch, epochs = int(config.get("batch", 64)), int(config.get("epochs", 1))
    steps = -(-len(x) // batch) * epochs
    rate = float(config.get("learning_rate", 3e-3))
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=0.2)
    model.train()
    step = 0
    for epoch in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):
            scores, _ = model(x[rows])
            losses = nn.functional.cross_entropy(scores, y[rows], reduction="none")
            loss = (losses * w[rows]).sum() / w[rows].sum()
            # A dark frame has no contrast to scale by; such a step is left out.
            if torch.isfinite(loss):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
            step += 1
            if step % 50 == 0 or step == steps:
                progress(step / steps, f"epoch {epoch + 1} of {epochs}, loss {loss.item():.3f}")
    return model.eval()


def evaluate(predict: Callable[[Array], Array], inputs: Array, labels: Array) -> dict[str, float]:
    """Share of pictures whose highest score is the label's."""
    return {"accuracy": float(np.mean(predict(inputs).argmax(axis=1) == labels))}
