"""Model candidates, one plug-in a module; training compares all that a class names."""
