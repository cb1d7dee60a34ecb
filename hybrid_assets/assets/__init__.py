"""What there is to build: of every asset its name, its upstream, its partitions, and what people are told of it.

The work of a step is in the module beside this package, imported when the step runs: it brings NumPy and Arrow, which
nobody who loads the definitions should wait for.
"""
