# Ratchet with its embedded Postgres, Valkey and Triton, on CPUs. Written to be read: CI does not build it yet.
#
#   docker build -t ratchet .
#   docker run --network host --shm-size=256m -v ratchet:/var/lib/ratchet ratchet
#
# Until it takes keys, Ratchet serves loopback only: --network host lets the host reach it, a published port would not.
# For GPUs, set TRITON_URL to NVIDIA's Triton container (nvcr.io/nvidia/tritonserver) instead of growing this image.

FROM python:3.12-slim-bookworm AS install
WORKDIR /opt/ratchet
COPY . .
RUN ./run setup && rm -rf .cache /root/.cache

FROM python:3.12-slim-bookworm
RUN useradd --system --home-dir /var/lib/ratchet --create-home ratchet
COPY --from=install /opt/ratchet /opt/ratchet
USER ratchet
ENV RATCHET_HOME=/var/lib/ratchet
VOLUME /var/lib/ratchet
WORKDIR /opt/ratchet
# exec form: SIGTERM reaches Ratchet, which drains and stops its children.
ENTRYPOINT ["/opt/ratchet/run"]
CMD ["serve"]
