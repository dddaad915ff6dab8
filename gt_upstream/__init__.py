"""What the earlier repository made, as a plug-in of gt."""
