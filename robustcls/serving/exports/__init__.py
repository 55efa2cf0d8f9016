"""What a version of an export is made of."""
