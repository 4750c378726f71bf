"""Live counters in Redis, fed from the durable log exactly once. Losing them loses nothing."""
