"""Opens what the processes need from the outside, in order, and closes it in reverse."""
