"""The processes of ``benchmarks/transfer.py`` (hub, HTTP server, devices), and the fine-tunes that it compares."""
