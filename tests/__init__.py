"""Tests are in the folders of the packages they test; contract tests are on top, builders in `support`."""
