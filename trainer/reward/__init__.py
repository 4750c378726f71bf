"""The reward model: its losses, training, evaluation, calibration, gate and report."""
