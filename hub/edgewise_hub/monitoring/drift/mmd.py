"""MMD: how far apart are two means of random Fourier features? n_e * |delta|^2.

The squared maximum mean discrepancy under the RBF kernel that the features approximate (Gretton et al., 2012; Rahimi
and Recht, 2007). Against its own null the unbiased and the biased form are one test: they differ by what does not
depend on the window, since |z| = 1. It sees a change of few, large directions (a class twice as common) that ridge-T2
dilutes, and ridge-T2 sees what it does not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def statistics(deltas: npt.NDArray[np.float64], n_e: float) -> npt.NDArray[np.float64]:
    """n_e * |delta|^2 of each row: [k, D] -> [k]."""
    result: npt.NDArray[np.float64] = n_e * np.einsum("ij,ij->i", deltas, deltas)
    return result
