"""`report.html`, one file without a script, built from a run's manifest and curves; and the tables of the terminal.

write_html_report(run_dir)
"""
