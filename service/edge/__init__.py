"""What a connection may take before a request exists: bytes, time and places, bounded for every client alike."""
