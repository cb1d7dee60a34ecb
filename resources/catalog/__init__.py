"""Reads contracts and site files; `backbone` gives them meaning."""
