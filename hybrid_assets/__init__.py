"""What is built: the assets of every equipment class, and the one place that composes everything."""
