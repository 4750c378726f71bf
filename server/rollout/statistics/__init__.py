"""What the evidence of rollouts and experiments says. Pure: arrays in, frozen values out; no clock, I/O or randomness.

`outcomes` -> `estimates` -> `intervals` (with a `boundary`) -> `criteria`; `events` and `mismatch` are exact and stand
beside them. docs/experiments.md explains what is guaranteed.
"""
