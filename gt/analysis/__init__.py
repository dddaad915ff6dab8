"""From run records to what they say: statistics over seeds, and the tables that hold them."""
