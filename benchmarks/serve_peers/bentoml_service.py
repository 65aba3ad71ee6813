"""The model behind BentoML: one service, as its guide has it."""

import bentoml
import numpy as np
from session import INPUTS, OUTPUT, open_session

NAMES, DTYPES, _ = zip(*INPUTS, strict=True)


@bentoml.service(workers=1)
class One:
    """A model of one input."""

    def __init__(self) -> None:
        self._session = open_session()

    @bentoml.api
    def infer(self, a: np.ndarray) -> np.ndarray:
        """The output."""
        return self._session.run([OUTPUT], {NAMES[0]: a.astype(DTYPES[0], copy=False)})[0]


@bentoml.service(workers=1)
class Two:
    """A model of two."""

    def __init__(self) -> None:
        self._session = open_session()

    @bentoml.api
    def infer(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The output."""
        given = zip(NAMES, DTYPES, (a, b), strict=True)
        return self._session.run([OUTPUT], {name: array.astype(dtype, copy=False) for name, dtype, array in given})[0]
