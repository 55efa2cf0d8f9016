"""An evaluation of a whole run: its models, its parts, what comes of them."""
