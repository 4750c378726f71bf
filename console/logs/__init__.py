"""The log of replies, as pages show it."""
