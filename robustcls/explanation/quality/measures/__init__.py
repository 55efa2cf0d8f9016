"""Figures of maps, one for each image."""
