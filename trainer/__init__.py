"""The sidecar: what turns feedback into better models. So far, the starter models. Never imports the server."""
