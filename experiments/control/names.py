"""The names of the trainings that spike, which configurations and the command line know."""

SINE, FREQUENT, DEEP, DIGITS = "sine", "frequent", "deep", "digits"
SEQUENCE, LANGUAGE = "sequence", "language"

FULL_BATCH = (SINE, FREQUENT, DEEP, DIGITS)
"""Trained on the full batch."""

TRANSFORMERS = (SEQUENCE, LANGUAGE)
"""Trained on mini-batches."""

TASKS = (*FULL_BATCH, *TRANSFORMERS)
