"""Checkpoint -> ONNX, TensorRT or CTranslate2 -> parity -> release directory.

`export_policy`, `export_reward`, `export_embedding` and `export_classifier` write a release's content, `ratchet export`
runs them, and `triton_models.release.install` puts it where Triton serves it. encoder.py tells the story of the latter
three, variants.py that of their graphs.
"""
