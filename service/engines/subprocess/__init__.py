"""Read files in child processes: a file that crashes the reader, hangs it or fills its memory fails alone."""
