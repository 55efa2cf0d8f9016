"""What a class is made of to a model."""
