"""Stores: where a location keeps its tables."""
