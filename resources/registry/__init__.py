"""Releases of models: kept, signed and verified."""
