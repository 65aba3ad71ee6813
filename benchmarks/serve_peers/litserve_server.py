"""The model behind LitServe: one API, as its guide has it."""

import os
import sys

import litserve
import numpy as np
import onnxruntime as ort


class Api(litserve.LitAPI):
    """One session."""

    def setup(self, device: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict) -> np.ndarray:
        tensor = request["inputs"][0]
        return np.array(tensor["data"], np.float32).reshape(tensor["shape"])

    def predict(self, image: np.ndarray) -> np.ndarray:
        return self._session.run(["scores"], {"image": image})[0]

    def encode_response(self, scores: np.ndarray) -> dict:
        return {"scores": scores.tolist()}


if __name__ == "__main__":
    litserve.LitServer(Api(), accelerator="cpu").run(
        port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False
    )
