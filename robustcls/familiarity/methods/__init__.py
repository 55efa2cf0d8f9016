"""The methods of familiarity, one a file."""
