"""What the server knows of training runs, which the sidecar trainer does: their types, and which settings there are."""
