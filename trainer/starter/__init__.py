"""The starter models: an invented shop's help desk, a small policy and a small reward model trained from scratch on it.

`python -m trainer.starter` makes the corpus, trains, exports and proves them; docs/starter.md tells the whole story.
"""
