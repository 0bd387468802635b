"""The demonstration: starts the service, sends it one request over HTTP, and shows what came of it in every signal."""
