"""Chapter 7: which neurons a prediction rests on, and a detector made of them."""
