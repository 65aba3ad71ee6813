"""A float TFLite file in a smaller form, by ai-edge-quantizer; inputs and outputs keep their types.

Rules that hold in ``int8`` (the first two in ``int8x16`` too):
- ranges are the least and the most over all items. The quantizer's own moving average forgets the largest, and what
  lies beyond its ranges is cut off: logits were off by 8-9;
- divisions, and what makes their divisors, stay float: a divisor near zero would round to zero, and end the run;
- the fully connected layers before the outputs have int8 weights and float outputs, and what follows them stays float:
  no output is rounded to 256 steps of its range.

In ``weight4`` scales are OCTAV's (Sakr et al. 2022), which clip a weight where that errs less; activations are
quantized as they come: weights that are made float again on each run took 3 to 20 times as long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from ai_edge_quantizer import calibrator, quantizer, recipe_manager
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.utils import qsv_utils

from . import tflite
from .tflite import Op

STATIC = ("int8", "int8x16")
"""Modes that are calibrated."""


def quantize(float_model: bytes, mode: str, items: Iterable[dict[str, Any]]) -> bytes:
    """``mode``: fp16, int8, int8x16, dynamic or weight4. ``items``: by input name, read only where calibrated."""
    model = tflite.read(float_model)
    if mode in STATIC:
        tflite.separate_outputs(model)
    source = tflite.write(model)
    recipe = recipe_manager.RecipeManager()
    RECIPES[mode](recipe, source)
    ranges = None
    if mode in STATIC:
        calibration = calibrator.Calibrator(source, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
        calibration.calibrate({tflite.signature_key(model): list(items)}, recipe)
        ranges = calibration.get_model_qsvs()
    chosen = quantizer.Quantizer(source, recipe.get_quantization_recipe())
    result = chosen.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    if result.quantized_model is None:
        raise ValueError(f"{mode}: the quantizer gave no model")
    return bytes(result.quantized_model)


def _fp16(recipe: Any, source: bytes) -> None:
    recipe.add_weight_only_config(".*", Op.ALL_SUPPORTED, 16, algorithm_key=AlgorithmName.FLOAT_CASTING)


def _int8(recipe: Any, source: bytes) -> None:
    _static(recipe, source, activation_bits=8)
    between, layers = tflite.tails(tflite.read(source))
    for name, scope in between:
        recipe.add_quantization_config(_just(scope), name, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for scope in layers:
        recipe.add_dynamic_config(_just(scope), Op.FULLY_CONNECTED, 8)


def _int8x16(recipe: Any, source: bytes) -> None:
    _static(recipe, source, activation_bits=16)


def _dynamic(recipe: Any, source: bytes) -> None:
    recipe.add_dynamic_config(".*", Op.ALL_SUPPORTED, 8)


def _weight4(recipe: Any, source: bytes) -> None:
    # Only these two have kernels for 4 bits. The last layer is small, and errs straight into the scores.
    _dynamic(recipe, source)
    for name in (Op.FULLY_CONNECTED, Op.CONV_2D):
        recipe.add_dynamic_config(".*", name, 4, algorithm_key=AlgorithmName.OCTAV)
    for scope in tflite.tails(tflite.read(source))[1][-1:]:
        recipe.add_dynamic_config(_just(scope), Op.FULLY_CONNECTED, 8)


def _static(recipe: Any, source: bytes, activation_bits: int) -> None:
    recipe.add_static_config(".*", Op.ALL_SUPPORTED, activation_bits, 8)
    for name in (Op.INPUT, Op.OUTPUT):
        recipe.add_quantization_config(".*", name, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for name, scope in tflite.divisions(tflite.read(source)):
        recipe.add_quantization_config(_just(scope), name, algorithm_key=AlgorithmName.NO_QUANTIZE)


def _just(scope: str) -> str:
    return f"^{re.escape(scope)}$"


RECIPES: dict[str, Callable[[Any, bytes], None]] = {
    "fp16": _fp16,
    "int8": _int8,
    "int8x16": _int8x16,
    "dynamic": _dynamic,
    "weight4": _weight4,
}
