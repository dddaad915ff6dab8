"""Feed-forward layers: what mixes the channels of one position after a mixer has mixed positions."""
