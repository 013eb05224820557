"""ONNX and TensorRT files from models, and the check that they still say the same."""
