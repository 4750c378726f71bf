"""Tools that fetch evidence for a query. Adding one is one file here and one line in `registry`."""
