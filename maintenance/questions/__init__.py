"""Questions, one plug-in a module: what a model of a class is to tell, and how that is learnt and judged."""
