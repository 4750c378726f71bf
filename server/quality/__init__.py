"""What the quality checks go by, each over one text: safety, grounding, coherence, language. Pure, and linear in the
length of the text; `models` alone asks classifiers. It knows nothing of candidates or requests:
`server/stages/quality.py` applies it."""
