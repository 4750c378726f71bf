"""Rules over the live figures, and the alerts that they raise. Nothing here rolls anything back."""
