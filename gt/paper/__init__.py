"""A paper about a project's studies: words that an author wrote, numbers that the records have."""
