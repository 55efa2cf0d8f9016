"""Reports for people: one HTML file each, which needs no network."""
