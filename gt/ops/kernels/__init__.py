"""Recurrences as Triton kernels. Imported only where there is a GPU and a backend asks for them."""
