"""Run the engine in child processes: work that crashes it, hangs it or fills its memory fails alone and is killed."""
