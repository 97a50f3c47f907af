"""Turns samples and requests into token ids: in the same way for training, validation, exam and requests."""
