"""Networks in PyTorch: architectures, grafted activations, and their export to ONNX."""
