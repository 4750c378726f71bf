"""The Triton code of rewards, embeddings and classifiers: `model.py` is copied into each installed release."""
