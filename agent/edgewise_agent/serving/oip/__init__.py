"""The Open Inference Protocol v2 over HTTP: ``tensors`` and ``messages`` are its data, ``api`` its paths."""
