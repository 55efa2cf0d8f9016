"""TFDS builders of sets that TFDS lacks. Importing one registers it with `tfds.load`."""
