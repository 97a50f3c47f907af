"""Tests whether a model's edit passes the repository's own check, in a sandbox without network or the host's files.

outcome = run(["cargo", "test"], tree, Limits(seconds, memory, disk))   # memory and disk in bytes
"""
