"""A depthwise-separable CNN on Fashion-MNIST on whose channels default int8 quantization collapses.

After training, channel c of each depthwise layer is scaled by s_c, log-uniform over ``uneven`` (1000 to 1), and the
next 1x1 convolution's weights for that channel by 1/s_c. ReLU is positively homogeneous, so the float model computes
what it did before; one step for all channels of an activation, though, leaves the small ones none. Nets trained with
batch normalization come out like this by themselves, as MobileNets did (Nagel et al. 2019, arXiv:1906.04721); here it
is done on purpose, so that the loss is known to be the quantizer's.

``config``: ``data`` (folder with the splits as npz), ``uneven``, ``epochs``, ``batch``, ``learning_rate``.
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
WIDTHS = (16, 32, 48, 64)
UNEVEN = 1000.0


class Separable(nn.Module):
    """Depthwise 3x3, then 1x1, with ReLU after each."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False)
        self.scale = nn.BatchNorm2d(inside)
        self.pointwise = nn.Conv2d(inside, outside, 1, bias=False)
        self.norm = nn.BatchNorm2d(outside)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.pointwise(torch.relu(self.scale(self.depthwise(x))))))


class UnevenNet(nn.Module):
    """float32 [n, 1, 28, 28] in 0..1 -> scores [n, 10] and embedding [n, 64]."""

    def __init__(self) -> None:
        super().__init__()
        first = WIDTHS[0]
        self.stem = nn.Sequential(nn.Conv2d(1, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        strides = (2, 2, 1)
        self.blocks = nn.Sequential(*map(Separable, WIDTHS, WIDTHS[1:], strides))
        self.head = nn.Linear(WIDTHS[-1], len(CLASSES))

    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = nn.functional.adaptive_avg_pool2d(self.blocks(self.stem(input)), 1).flatten(1)
        return self.head(embedding), embedding


def build(config: Config) -> nn.Module:
    """7,000 parameters or so; ``config`` changes nothing."""
    return UnevenNet()


@torch.no_grad()
def make_uneven(model: nn.Module, ratio: float, seed: int) -> nn.Module:
    """Scale the depthwise channels apart, ``ratio`` from the largest scale to the smallest; outputs stay the same.

    A model that is uneven already (fine-tuned from such weights) is left as it is.
    """
    generator = torch.Generator().manual_seed(seed)
    for block in model.modules():
        if isinstance(block, Separable) and block.scale.weight.abs().log().std() < 1:
            s = ratio ** (torch.rand(block.scale.num_features, generator=generator) - 0.5)
            # The exporter folds the batch normalization into the depthwise weights: they become as uneven.
            block.scale.weight.mul_(s)
            block.scale.bias.mul_(s)
            block.pointwise.weight.div_(s.view(1, -1, 1, 1))
    return model


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
    batch, epochs = int(config.get("batch", 128)), int(config.get("epochs", 4))
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
    return make_uneven(model.eval(), float(config.get("uneven", UNEVEN)), seed)


def evaluate(predict: Callable[[Array], Array], inputs: Array, labels: Array) -> dict[str, float]:
    """Share of items whose highest score is the label's."""
    return {"accuracy": float(np.mean(predict(inputs).argmax(axis=1) == labels))}
