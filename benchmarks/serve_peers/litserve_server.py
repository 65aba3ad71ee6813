"""The model behind LitServe: one API, as its guide has it."""

import sys

import litserve
import numpy as np
from session import INPUTS, OUTPUT, open_session

DTYPES = {name: dtype for name, dtype, _ in INPUTS}


class Api(litserve.LitAPI):
    """One session."""

    def setup(self, device: str) -> None:
        self._session = open_session()

    def decode_request(self, request: dict) -> dict[str, np.ndarray]:
        return {
            tensor["name"]: np.array(tensor["data"], DTYPES[tensor["name"]]).reshape(tensor["shape"])
            for tensor in request["inputs"]
        }

    def predict(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return self._session.run([OUTPUT], inputs)[0]

    def encode_response(self, output: np.ndarray) -> dict:
        return {"output": output.tolist()}


if __name__ == "__main__":
    litserve.LitServer(Api(), accelerator="cpu").run(
        port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False
    )
