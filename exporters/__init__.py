"""Checkpoint -> ONNX or CTranslate2 -> parity -> release directory.

`export_policy` and `export_reward` write a release's content; `triton_models.release.install` puts it where Triton
serves it. TensorRT plans are built on the GPU machine that will run them, from the ONNX graph of a release.
"""
