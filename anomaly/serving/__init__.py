"""A detector as a SavedModel, alone or in front of a classifier."""
