"""What `benchmarks/serve.py` measures: the device, and the servers beside it."""
