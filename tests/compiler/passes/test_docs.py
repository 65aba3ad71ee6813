"""The page on passes: its example runs as it stands there, and its table names every pass that works without torch."""

from __future__ import annotations

import re
import types
from pathlib import Path

import numpy as np

from edgewise_compiler.passes import BUILT_IN, find
from edgewise_compiler.passes.graph import Links, load, weighted

PAGE = (Path(__file__).parents[3] / "docs" / "passes.md").read_text()
OTHERS = {"litert", "litert_quantize", "openvino", "executorch"}


def test_the_example_runs(bench, nets, monkeypatch):
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    module = types.ModuleType("my_passes")
    exec(compile(code[1], "my_passes.py", "exec"), module.__dict__)
    find.cache_clear()
    point = types.SimpleNamespace(name="snap", load=lambda: module.Snap)
    monkeypatch.setattr("edgewise_compiler.passes.entry_points", lambda group: [point])
    try:
        base = bench.apply("optimize", model=bench.save(nets()))
        made = load(bench.apply("snap", model=base, part=0.2))
    finally:
        find.cache_clear()
    weights = [Links(made.graph).array(node.input[1]) for node in weighted(made.graph)]
    assert 0.02 < np.mean([np.mean(weight == 0) for weight in weights]) < 0.5


def test_the_tables_name_every_pass():
    told = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    untold = {name for name in BUILT_IN if not find(name).trains} - told - OTHERS
    assert not untold, "add a line to docs/passes.md"
    for name in sorted(told):
        assert name in BUILT_IN
