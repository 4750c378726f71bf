"""From feedback, or a file, to what a reward model is trained and judged on. Frozen records; no torch."""
