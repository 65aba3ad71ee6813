"""Quantization-aware training of the very graph that is deployed: a QDQ file in, the same with trained values out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from edgewise_compiler.passes import Kind, Work
from edgewise_compiler.training.base import Training
from edgewise_compiler.training.recovery import Recovery

if TYPE_CHECKING:
    import onnx

Bits = Annotated[int, Meta(ge=2, le=8)]


class QatConfig(Recovery, frozen=True, kw_only=True):
    """``bits`` of the weights: one number for all, or by node name. With 8, a layer keeps what it has."""

    bits: Bits | dict[str, Bits] = 8
    learning_rate: Annotated[float, Meta(gt=0, le=10)] = 5e-4


class Qat(Training):
    """Takes the quantized model, the float model that it was made of, and the teacher (which may be the same)."""

    name = "qat"
    title = "train the quantized model"
    paper = "LSQ: Esser et al. 2020, arXiv:1902.08153; distilled: Hinton et al. 2015, arXiv:1503.02531"
    takes: ClassVar[dict[str, Kind]] = {"model": "onnx", "float": "onnx", "teacher": "onnx"}
    needs = frozenset({"quantized"})
    forbids = frozenset({"masked"})
    gives = frozenset({"trained"})
    Config = QatConfig

    def run(self, work: Work) -> None:
        """Raises Refusal where a graph cannot be trained."""
        import onnx

        from edgewise_compiler.training.lessons import InOrderOf, data_of, feeds_of, load, save
        from edgewise_compiler.training.qat import prepare_qat
        from edgewise_compiler.training.recover import recover

        config: QatConfig = work.config
        quantized = onnx.load_model(str(work.inputs["model"]))
        _, teacher = load(work.inputs["teacher"])
        widths = (
            config.bits if isinstance(config.bits, dict) else dict.fromkeys(with_int8_weights(quantized), config.bits)
        )
        narrow = {node: bits for node, bits in widths.items() if bits < 8}
        prepared = prepare_qat(quantized, onnx.load_model(str(work.inputs["float"])), bits=narrow)
        data, module = data_of(work), prepared.module
        outputs = list(module.output_names)
        trained = recover(
            module,
            InOrderOf(teacher, module),
            feeds_of(module, quantized, data),
            data.labels,
            outputs=outputs,
            scores=work.scores if work.scores in outputs else None,
            config=config,
            seed=work.seed,
            progress=work.progress,
            notes=work.notes,
        )
        save(prepared.write(trained), work.out)
        if narrow:
            work.notes.append(f"{len(narrow)} layers have weights of {sorted(set(narrow.values()))} bits")
        if prepared.unmatched:
            work.notes.append(f"{len(prepared.unmatched)} weights are not in the float model: they start as quantized")


def with_int8_weights(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes whose weights are quantized constants."""
    constants = {tensor.name for tensor in model.graph.initializer}
    dequantized = {
        node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }
    weighted = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    return [node.name for node in weighted if len(node.input) > 1 and node.input[1] in dequantized]
