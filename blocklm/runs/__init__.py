"""The run directory: its manifest, a completed run opened again, continuation, model card and report.

run = open_run(Path("runs/project-1a2b3c4d"))
run.manifest["exam"], run.tuned()
"""
