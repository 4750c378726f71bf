"""Experiments: a variant of settings compared with what is in force, on the assignment and the evidence of rollouts."""
