"""A database that may be asked in plain words: what of it, which statements, and how they run. The tool is
`server.tools.sql`; nothing else uses this room."""
