"""What trains: ONNX graphs as torch modules, quantization-aware training, recovery, pruning, masks, adapters."""
