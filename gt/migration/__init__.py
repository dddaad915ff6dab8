"""Documents of earlier schemas as those of later ones."""
