"""The asyncio gRPC server. `server/pipeline.py` tells the story."""
