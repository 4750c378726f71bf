"""Documents that evidence is taken from: read, split into passages, and made findable."""
