"""The Triton models' code and the contract that server, trainer and exporters share.

Light: numpy, tokenizers and the standard library only. It never imports torch nor another room.
"""
