"""The game day: inflict faults on real processes and check which alert fires, whom it reaches, and when it clears."""
