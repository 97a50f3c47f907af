"""Whether a model's edit passes the repository's own check, run in a sandbox without network or the host's files.

outcome = run(["cargo", "test"], tree, Limits(seconds, memory, disk))   # memory and disk in bytes
"""
