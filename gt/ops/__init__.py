"""The recurrences of the mixers: sequential references, and chunked torch code that computes the same."""
