"""What is made before the stream runs: the body file. Nothing here is imported by the stream."""
