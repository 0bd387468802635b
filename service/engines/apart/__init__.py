"""Reading files in a process apart: a file that breaks its reader, or fills its memory, breaks nothing else."""
