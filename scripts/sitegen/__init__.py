"""Site logic in plain functions, behind thin MkDocs hooks."""
