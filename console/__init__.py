"""The web console: a client of the gRPC API like any other. Never imports the server, never sees the database."""
