"""Pictures under ``imagecorruptions``: run in the peers' environment.

    python corrupt.py INPUT.npz OUTPUT.npz

INPUT: ``images`` uint8 [n, 28, 28]. OUTPUT: uint8 [n, 28, 28] for each of the 15 common corruptions at severities 1 to
3, named as in ``gaussian_noise 1``. The package wants 32 pixels and three channels: pictures are padded with black and
repeated, and cut and averaged afterwards.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
from imagecorruptions import corrupt, get_corruption_names

SEVERITIES = (1, 2, 3)


def main(source: Path, target: Path) -> None:
    """Corrupt every picture in every way."""
    warnings.simplefilter("ignore")
    with np.load(source) as raw:
        padded = np.pad(raw["images"], ((0, 0), (2, 2), (2, 2)))
    coloured = np.repeat(padded[..., None], 3, axis=3)
    made = {}
    for name in get_corruption_names("common"):
        for severity in SEVERITIES:
            np.random.seed(severity)
            found = [corrupt(image, corruption_name=name, severity=severity) for image in coloured]
            made[f"{name} {severity}"] = np.rint(np.mean(found, axis=3))[:, 2:30, 2:30].astype(np.uint8)
    np.savez(target, **made)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
