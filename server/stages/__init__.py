"""The stages of the request path. They never import each other."""
