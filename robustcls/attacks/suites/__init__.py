"""Attacks made of several, one after the other."""
