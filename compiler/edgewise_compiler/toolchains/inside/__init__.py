"""What runs in a toolchain's environment: it imports what is installed there, ``onnx_torch`` by path, and itself."""
