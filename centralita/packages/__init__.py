"""Debian packages: where they come from, which ones exactly, and their files."""
