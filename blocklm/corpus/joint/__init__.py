"""A corpus of many repositories, each split by its own time, without what one of them repeats of another.

Each repository's own corpus is read as `scripts/mine.py --repos` left it; only the joint samples are written.
"""
