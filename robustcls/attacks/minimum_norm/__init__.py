"""Attacks that look for the nearest misclassified point."""
