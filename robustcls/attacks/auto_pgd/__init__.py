"""Auto-PGD: its rule in the balls of each norm."""
