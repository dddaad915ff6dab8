"""The corpora that a study can name. A file in here, or in a project's own package, needs no other file."""
