"""A fit: how it goes on until it is enough, what is said of it, how it is kept, and whether it belongs to a model."""
