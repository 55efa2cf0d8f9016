"""Folders of one normal class, with the masks of the sets of defects."""
