"""The `ratchet` command. Imports lazily: it starts in well under a second."""
