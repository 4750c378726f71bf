"""The reward model's Triton code: `model.py` is copied into each installed release."""
