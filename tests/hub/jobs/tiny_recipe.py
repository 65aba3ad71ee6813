"""A recipe small enough for tests: which of two clusters a point lies in. float32 [n, 4] -> 2 classes.

Points are (x, domain, noise, noise); in the old domain (0) the border lies at x = 0, in the new one (1) at x = 3.
``config``: ``epochs``; ``hold``: a file that ``train`` waits for; ``fail``: raise in ``train``.
"""

import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

CLASSES = ["low", "high"]
METRIC = "accuracy"


class Net(nn.Module):
    """Scores [n, 2] and embedding [n, 8]."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, input):
        embedding = self.body(input)
        return self.head(embedding), embedding


def points(n, seed, domain=0):
    """n points and their labels, both classes alike."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    x = draw.normal(np.where(labels == 1, 1.5, -1.5) + 3 * domain, 0.4)
    rest = draw.normal(0, 0.1, (n, 2))
    return np.column_stack([x, np.full(n, domain), rest]).astype(np.float32), labels.astype(np.int64)


def build(config):
    torch.manual_seed(0)
    return Net()


def load(split, config):
    return points(
        {"train": 400, "calibrate": 64, "reference": 300}[split], {"train": 1, "calibrate": 2, "reference": 3}[split]
    )


def train(model, inputs, labels, config, *, seed, weights=None, progress):
    if config.get("fail"):
        raise ValueError(config["fail"])
    progress(0.1, "began")
    deadline = time.monotonic() + 60
    while "hold" in config and not Path(config["hold"]).exists():
        if time.monotonic() > deadline:
            raise TimeoutError("nobody let the training go on")
        time.sleep(0.05)
    torch.manual_seed(seed)
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels)
    w = torch.ones(len(x)) if weights is None else torch.from_numpy(weights)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    model.train()
    for _ in range(int(config.get("epochs", 150))):
        losses = nn.functional.cross_entropy(model(x)[0], y, reduction="none")
        optimizer.zero_grad()
        (losses * w).mean().backward()
        optimizer.step()
    return model


def evaluate(predict, inputs, labels):
    return {"accuracy": float(np.mean(predict(inputs).argmax(axis=1) == labels))}
