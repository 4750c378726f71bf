"""Rollouts: how a release takes over from the champion, step by step and only on evidence, or gives its traffic back.

All of it is pure: values in, values out. What is stored, loaded and routed follows from these values elsewhere.
"""
