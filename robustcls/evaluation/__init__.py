"""What a classifier is worth on clean, corrupted and attacked images, and whether to believe it."""
