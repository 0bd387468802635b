"""The proof of an autoscaler's targets: one limited pod measured, a prediction, and real processes that scale."""
