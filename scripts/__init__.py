"""Everything that builds the site."""
