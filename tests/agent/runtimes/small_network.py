"""The small network of the contract: image [n, 1, 8, 8] -> scores [n, 3], embedding [n, 8].

A convolution, ReLU, two dense layers. Numpy alone, so that ``make_tflite.py`` runs where litert-torch is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIDE, CLASSES, WIDTH = 8, 3, 8

Floats = npt.NDArray[np.float32]


def weights() -> dict[str, Floats]:
    """The network's weights by name; dense ones are [inputs, outputs]."""
    random = np.random.default_rng(3)
    shapes = {
        "wc": (4, 1, 3, 3),
        "bc": (4,),
        "w1": (64, WIDTH),
        "b1": (WIDTH,),
        "w2": (WIDTH, CLASSES),
        "b2": (CLASSES,),
    }
    return {name: (random.normal(size=shape) * 0.3).astype(np.float32) for name, shape in shapes.items()}


def images(items: int, seed: int = 0) -> Floats:
    """float32 [items, 1, 8, 8]."""
    return np.random.default_rng(seed).normal(size=(items, 1, SIDE, SIDE)).astype(np.float32)


def answers(image: Floats) -> dict[str, Floats]:
    """What the network answers, in numpy."""
    w = weights()
    padded = np.pad(image[:, 0], ((0, 0), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    convolved = np.einsum("nhwij,cij->nchw", patches, w["wc"][:, 0]) + w["bc"][:, None, None]
    embedding = np.tanh(np.maximum(convolved, 0).reshape(len(image), -1) @ w["w1"] + w["b1"])
    return {"scores": embedding @ w["w2"] + w["b2"], "embedding": embedding}
