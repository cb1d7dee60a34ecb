"""The use case: from readings to maintenance advisories. Pure; swap it and the backbone still stands."""
