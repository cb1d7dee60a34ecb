"""Sources of telemetry, one plug-in a module; the port is `backbone.sources`."""
