"""Tests mirror the package: one file per room, and four contract tests."""
