"""Published studies as a data set of the Hugging Face Hub."""
