"""Places in files as they were while a commit was written, and the samples that are asked there.

The corpus stores where a place is, not the text around it: the text is read from git once a sample is drawn.
"""
