"""Rules, one plug-in a module; what each looks at is code, its thresholds come from the equipment class."""
