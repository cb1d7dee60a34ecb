"""Rehearsals: a plant's own configuration under seeded faults, with a simulated clock and everything else real."""
