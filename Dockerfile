# Ratchet with its embedded Postgres, Valkey and Triton, on CPUs. Written to be read: CI does not build it yet.
#
#   docker build -t ratchet .
#   docker run --network host --shm-size=256m -v ratchet:/var/lib/ratchet ratchet
#
# and beside it the trainer (docs/training.md), on the same volume, or anywhere with DATABASE_URL:
#
#   docker build -t ratchet-trainer --target trainer .
#   docker run -v ratchet:/var/lib/ratchet --stop-timeout 60 ratchet-trainer
#
# Without keys Ratchet serves loopback only: --network host lets the host reach it, a published port would not. With
# RATCHET_KEYS=on, RATCHET_LISTEN=0.0.0.0:50051 and a certificate (docs/keys.md), publish the port instead.
# The console, http://127.0.0.1:8080, stays on loopback; beyond it put a proxy that ends TLS in front (docs/console.md).
# For GPUs, set TRITON_URL to NVIDIA's Triton container (nvcr.io/nvidia/tritonserver) instead of growing this image.

FROM python:3.12-slim-bookworm AS install
WORKDIR /opt/ratchet
# Who runs it can't write there: each start would compile all that it imports.
ENV UV_COMPILE_BYTECODE=1
COPY . .
RUN ./run setup && rm -rf .cache /root/.cache

FROM python:3.12-slim-bookworm AS base
RUN useradd --system --uid 900 --home-dir /var/lib/ratchet --create-home ratchet
USER ratchet
ENV RATCHET_HOME=/var/lib/ratchet
VOLUME /var/lib/ratchet
WORKDIR /opt/ratchet

FROM install AS install-trainer
RUN ./run setup train && rm -rf .cache /root/.cache

FROM base AS trainer
COPY --from=install-trainer /opt/ratchet /opt/ratchet
# exec form: SIGTERM reaches the trainer, which writes a checkpoint.
ENTRYPOINT ["/opt/ratchet/run"]
CMD ["trainer"]

FROM base
COPY --from=install /opt/ratchet /opt/ratchet
# exec form: SIGTERM reaches Ratchet, which drains and stops its children.
ENTRYPOINT ["/opt/ratchet/run"]
CMD ["serve"]
