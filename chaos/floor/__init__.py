"""The plant floor under faults: a real gateway with its porter, a real broker, and machines that send."""
