"""Releases the result of a run: verified by a reload, merged, exported to GGUF, audited, gated, pushed.

push_run(open_run(run_dir), "me/my-adapter", private=True)
"""
