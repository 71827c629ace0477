"""Figures of the site, one module per key."""
