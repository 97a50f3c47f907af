"""A conversation about a change, with what is like it in the past and what followed that.

reviewer = review_of(assistant, "HEAD", most=2048)
reviewer.comment()
"""
