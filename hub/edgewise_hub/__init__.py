"""The hub: registry, fleet, rollouts, monitoring, learning, API."""

import os

# Small matrices in several threads: OpenBLAS's own threads spin against each other and cost fifty times the work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
