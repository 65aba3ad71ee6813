"""The model behind BentoML: one service, as its guide has it."""

import os

import bentoml
import numpy as np
import onnxruntime as ort


@bentoml.service(workers=1)
class Service:
    """One session."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])

    @bentoml.api
    def infer(self, image: np.ndarray) -> np.ndarray:
        """The scores."""
        return self._session.run(["scores"], {"image": image.astype(np.float32, copy=False)})[0]
