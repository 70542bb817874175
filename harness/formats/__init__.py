"""File formats: ONNX, VNN-LIB, instances.csv, results.csv, counterexamples, and the engine's line protocol."""
