"""Explanations by other images: what the model has learnt from, what would change its answer."""
