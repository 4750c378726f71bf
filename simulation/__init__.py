"""Simulated users with a hidden rubric, through the public API only: for demonstrations, tests and benchmarks.

`crowd.py` says who they are, `opinions.py` what they think of a reply, `client.py` how they say so, `run.py` lets them
all work at once. docs/simulation.md tells the whole story.
"""
