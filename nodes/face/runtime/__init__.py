"""Loaded networks: ONNX files run by onnxruntime or by torch behind one session interface."""
