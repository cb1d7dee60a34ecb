"""State that processes share, in one SQL database; a module a subject."""
