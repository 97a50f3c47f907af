"""Cuts a hunk into windows that a model can read; each begins with the last lines of the one before."""

from collections.abc import Iterator

# A window is cut so that prompt and completion fit the shortest recipe (512 tokens) in most cases; plain text has
# three to four characters a token.
WINDOW_LINES = 40
WINDOW_CHARS = 1400
CARRIED_LINES = 3  # context that a later window of the same hunk repeats from the one before

Line = tuple[str, str]  # its mark in a unified diff, and its text


def windows(hunk: list[Line], max_lines: int = WINDOW_LINES, max_chars: int = WINDOW_CHARS) -> Iterator[list[Line]]:
    """Cut a hunk into windows of bounded size; each later one begins with the last lines of the one before.

    Args:
        hunk: lines of the hunk.
        max_lines: maximum number of lines in a window, without those that it repeats.
        max_chars: number of characters after which a window ends; context counts twice.
    """
    start, carried = 0, list[Line]()
    while start < len(hunk):
        end = _find_end(hunk, start, max_lines, max_chars)
        window = carried + hunk[start:end]
        yield window
        carried = [(" ", text) for mark, text in window if mark != "-"][-CARRIED_LINES:]
        start = end


def _find_end(hunk: list[Line], start: int, max_lines: int, max_chars: int) -> int:
    """Find the end of the window that begins at `start`: the last blank line in its second half, or the size limit."""
    chars, end = 0, start
    for mark, text in hunk[start : start + max_lines]:
        if chars >= max_chars:
            break
        chars += (len(text) + 1) * (2 if mark == " " else 1)  # context stands in both prompt and completion
        end += 1
    if end == len(hunk):
        return end
    blank = [
        line for line in range(start + (end - start) // 2, end) if hunk[line][0] != "-" and not hunk[line][1].strip()
    ]
    return blank[-1] + 1 if blank else end
