"""Any model as images to logits, whatever it was made with."""
