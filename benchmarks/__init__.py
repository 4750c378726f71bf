"""Measures Ratchet: `./run bench`."""
