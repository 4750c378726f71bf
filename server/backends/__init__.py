"""What the request path needs of Triton, the client of it, and the fake."""
