"""The small nets whose embeddings are watched, trained here on one thread: a CNN for pictures, another for series, an
MLP for tables, a graph net for molecules. Each gives (embedding, scores)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Array = npt.NDArray[Any]
Set = dict[str, tuple[Array, Array]]
"""Shift -> (inputs, labels)."""
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


class Messages(nn.Module):
    """A relational graph convolution (Schlichtkrull et al., 2018) over dense adjacency: each atom is what it was, and
    what its neighbours are by each kind of bond."""

    def __init__(self, kinds: int, given: int, hidden: int) -> None:
        super().__init__()
        self.own = nn.Linear(given, hidden)
        self.by_kind = nn.ModuleList(nn.Linear(given, hidden, bias=False) for _ in range(kinds))

    def forward(self, atoms: torch.Tensor, bonds: torch.Tensor) -> torch.Tensor:
        """[n, atoms, given] and [n, kinds, atoms, atoms] -> [n, atoms, hidden]."""
        found = self.own(atoms)
        for kind, layer in enumerate(self.by_kind):
            found = found + bonds[:, kind] @ layer(atoms)
        return torch.relu(found)


class Graphs(nn.Module):
    """Three rounds of messages over graphs packed as ``molecules.py`` does, then the sum and the mean over atoms."""

    KINDS, HIDDEN = 4, 32

    def __init__(self, atoms: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.rounds = nn.ModuleList(
            Messages(self.KINDS, width if i == 0 else self.HIDDEN, self.HIDDEN) for i in range(3)
        )

    def forward(self, packed: torch.Tensor) -> torch.Tensor:
        """[n, atoms, width + atoms] -> [n, 2 * HIDDEN]."""
        found, kinds = packed[:, :, : self.width], packed[:, :, self.width :]
        there = found.any(dim=2, keepdim=True).float()
        bonds = torch.stack([(kinds == kind).float() for kind in range(1, self.KINDS + 1)], dim=1)
        for messages in self.rounds:
            found = messages(found, bonds) * there
        total = found.sum(dim=1)
        return torch.cat([total / 10, total / there.sum(dim=1)], dim=1)


def graphs(classes: int, atoms: int = 28, width: int = 13) -> Net:
    """For [n, atoms, width + atoms]."""
    return Net(Graphs(atoms, width), 2 * Graphs.HIDDEN, classes)


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
