"""Tests stand in the folders of the packages they test; contract tests stand on top, builders in `support`."""
