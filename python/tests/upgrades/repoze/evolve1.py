"""A version that is there already."""
