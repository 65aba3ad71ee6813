"""One decoder under atheris, guided by coverage: ``explore.py NAME SECONDS CORPUS``. Started by ``scripts/fuzz``.

What libFuzzer finds lies in the corpus; an input that breaks the decoder is written beside it and named at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # from scripts/fuzz: it is no dependency of the project

PACKAGES = ["edgewise", "edgewise_agent", "edgewise_compiler", "edgewise_hub"]

with atheris.instrument_imports(include=PACKAGES):
    sys.path.insert(0, str(Path(__file__).parent))
    from decoders import DECODERS, MOST, run


def main() -> None:
    """Runs until the time is over or an input breaks the decoder; libFuzzer ends the process."""
    name, seconds, corpus = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]) / sys.argv[1]
    corpus.mkdir(parents=True, exist_ok=True)
    for index, example in enumerate(DECODERS[name].examples):
        (corpus / f"example-{index}").write_bytes(example)
    largest = max(4096, 2 * max(map(len, DECODERS[name].examples)))
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={min(largest, MOST)}",
        f"-artifact_prefix={corpus.parent}/{name}-",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], lambda data: run(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
