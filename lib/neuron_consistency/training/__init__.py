"""How networks are trained, named, stored and loaded."""
