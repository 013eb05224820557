"""Text in, answer out, on the device: numpy, tokenizers and onnxruntime only."""
