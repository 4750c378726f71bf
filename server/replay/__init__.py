"""Logged requests, answered again with another release or other settings, and compared.

`request` says how a logged request is asked again, `recorded` stands in for what the world was like then, `releases`
brings models into Triton and takes them out, `parts` opens all that, `replayer` answers by the same pipeline as the
server, `comparison` tells what changed. Nothing here logs, remembers or learns.
"""
