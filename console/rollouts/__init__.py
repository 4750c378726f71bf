"""The parts of the page Rollouts."""
