"""Compute targets, one plug-in a module; the port is `backbone.targets`."""
