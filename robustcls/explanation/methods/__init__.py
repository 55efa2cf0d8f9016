"""The methods that make maps."""
