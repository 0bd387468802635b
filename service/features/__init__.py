"""The domain: what features are, how a plan is validated and features are judged. No I/O, no clock, no framework."""
