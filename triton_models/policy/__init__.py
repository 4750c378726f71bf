"""The policy's Triton code: `model.py` is copied into each installed release."""
