"""Source files of histories that tests build."""

COMMITS = 60
POLICY = """
class RetryPolicy:
    def __init__(self, attempts, delay, factor):
        self.attempts, self.delay, self.factor = attempts, delay, factor

    def waits(self):
        wait = self.delay
        for _ in range(self.attempts):
            yield wait
            wait = wait * self.factor
"""


def module(number: int, text: str = "") -> str:
    """Make a file that resembles no other."""
    names = [f"{word}_{number * 7 + at}" for at, word in enumerate(("load", "store", "merge", "split", "check"))]
    body = "".join(
        f"def {name}(value_{number}):\n    return {names[at - 1]}({number + at} * value_{number})\n\n"
        for at, name in enumerate(names)
    )
    return body + text
