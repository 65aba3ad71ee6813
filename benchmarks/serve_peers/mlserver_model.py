"""The model behind MLServer: a custom runtime, as its guide has it."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from session import INPUTS, OUTPUT, open_session

DTYPES = {name: dtype for name, dtype, _ in INPUTS}


class OnnxModel(MLModel):
    """One session."""

    async def load(self) -> bool:
        self._session = open_session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        inputs = {one.name: NumpyCodec.decode_input(one).astype(DTYPES[one.name], copy=False) for one in payload.inputs}
        output = self._session.run([OUTPUT], inputs)[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output(OUTPUT, output)])
