"""The layers: torch modules whose constants come from the equations, one module per key."""
