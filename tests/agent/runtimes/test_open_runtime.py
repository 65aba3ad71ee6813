"""Opening a runtime by name: what is unknown, missing or not taken is said, with what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from runtime_models import TFLITE

from edgewise_agent.runtimes import RUNTIMES, RuntimeFailure, open_runtime

HINTS = {
    "onnxruntime": "pip install edgewise-agent",
    "litert": "pip install 'edgewise-agent[litert]'",
    "openvino": "pip install 'edgewise-agent[openvino]'",
}


def refused(name: str, threads: int = 1, adapter: Path | None = None) -> RuntimeFailure:
    with pytest.raises(RuntimeFailure) as caught:
        open_runtime(name, TFLITE, threads, adapter)
    return caught.value


def test_an_unknown_runtime_is_refused_with_those_that_there_are() -> None:
    error = refused("tensorflow")
    assert error.code == "unknown-runtime" and "onnxruntime, litert, openvino" in str(error)


@pytest.mark.parametrize("name", ["litert", "openvino"])
def test_an_adapter_is_refused_where_it_would_be_left_out(name: str) -> None:
    assert refused(name, adapter=TFLITE).code == "adapter-refused"


def test_no_threads_are_refused() -> None:
    assert "expected one thread or more, got 0" in str(refused("litert", threads=0))


def test_a_missing_library_is_said_with_how_to_install_it() -> None:
    """In a process where the libraries cannot be imported, as if they were not installed."""
    code = """
import sys
from pathlib import Path
sys.modules.update(dict.fromkeys(["onnxruntime", "ai_edge_litert", "tflite_runtime", "openvino"]))
from edgewise_agent.runtimes import RUNTIMES, RuntimeFailure, available, open_runtime
print(available())
for name in RUNTIMES:
    try:
        open_runtime(name, Path("model"))
    except RuntimeFailure as error:
        print(name, error.code, str(error).rpartition("; ")[2])
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["[]", *(f"{name} runtime-missing {HINTS[name]}" for name in RUNTIMES)]


def test_to_ask_what_is_available_imports_none_of_it() -> None:
    code = """
import sys
from edgewise_agent.runtimes import available
print(available(), [name for name in ("numpy", "onnxruntime", "ai_edge_litert", "openvino") if name in sys.modules])
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == f"{list(RUNTIMES)} []\n"
