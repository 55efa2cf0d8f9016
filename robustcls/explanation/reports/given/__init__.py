"""What a report is given: models, images, masks, and which of them are shown."""
