"""BlockLM turns a git repository's own history into a language model that knows that codebase."""

from importlib.metadata import version

__version__ = version("blocklm")
