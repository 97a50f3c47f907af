"""`report.html`: one file without a script, drawn from a run's manifest and series; and the tables of the terminal.

write_html_report(run_dir)
"""
