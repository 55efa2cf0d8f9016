"""Whether an export answers as its model does."""
