"""The small nets whose embeddings are watched, trained here on one thread: a CNN for pictures, another for series, an
MLP for tables. Each gives (embedding, scores)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Array = npt.NDArray[Any]
WIDTH = 64


class Net(nn.Module):
    """``body`` to an embedding of WIDTH, then one linear layer."""

    def __init__(self, body: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(body, nn.Flatten(), nn.Linear(features, WIDTH), nn.ReLU())
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.body(x)
        return embedding, self.head(embedding)


def pictures(classes: int) -> Net:
    """For [n, 1, 28, 28]."""
    body = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, 1, 1),
        nn.ReLU(),
    )
    return Net(body, 32 * 7 * 7, classes)


def series(channels: int, classes: int) -> Net:
    """For [n, channels, 128]."""
    body = nn.Sequential(
        nn.Conv1d(channels, 32, 5, 2), nn.ReLU(), nn.Conv1d(32, 32, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(8)
    )
    return Net(body, 32 * 8, classes)


def table(columns: int, classes: int) -> Net:
    """For [n, columns]."""
    return Net(nn.Sequential(nn.Linear(columns, 128), nn.ReLU()), 128, classes)


def train(net: Net, inputs: Array, labels: Array, epochs: int, seed: int = 0) -> Net:
    """Adam, batches of 128. The same seed gives the same net."""
    torch.manual_seed(seed)
    for module in net.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    x, y = torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows])[1], y[rows]).backward()
            optimizer.step()
    return net.eval()


def answer(net: Net, inputs: Array) -> tuple[Array, Array]:
    """(embeddings [n, WIDTH], scores [n, classes]) as float32."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(inputs), 1000):
            parts.append(net(torch.from_numpy(inputs[start : start + 1000].astype(np.float32))))
    embeddings, scores = (torch.cat([part[i] for part in parts]).numpy() for i in (0, 1))
    return embeddings, scores
