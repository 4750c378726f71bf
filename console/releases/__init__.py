"""The parts of the page Releases."""
