# docs/image.md explains this file and says how it was checked.
#
# The newest supported Python. The digest is that of the tag: to change one, change both.
ARG PYTHON_IMAGE=python:3.14.8-slim-trixie@sha256:f85c5697265c178cc6887276c55fe16cf3d14ca35c3df6a5eab3b360534a55d2

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
# Only wheels whose hashes are listed. pip stays outside of what the image gets.
RUN python -m venv --without-pip /opt/odin-ws
COPY deploy/image/requirements.txt deploy/image/build-requirements.txt deploy/image/
RUN pip install --no-cache-dir --require-hashes --only-binary :all: --requirement deploy/image/build-requirements.txt \
 && pip --python /opt/odin-ws/bin/python install --no-cache-dir --require-hashes --only-binary :all: --requirement deploy/image/requirements.txt
# From here on a layer changes with the source; those above change with the requirements.
COPY pyproject.toml ./
COPY clients/python clients/python
COPY src src
RUN pip wheel --no-cache-dir --no-deps --no-index --no-build-isolation --wheel-dir wheels ./clients/python . \
 && pip --python /opt/odin-ws/bin/python install --no-cache-dir --no-deps --no-index wheels/*.whl

FROM ${PYTHON_IMAGE}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="odin-ws" \
      org.opencontainers.image.description="Fans Kafka topics out to WebSocket subscribers" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/python:3.14.8-slim-trixie" \
      org.opencontainers.image.base.digest="sha256:f85c5697265c178cc6887276c55fe16cf3d14ca35c3df6a5eab3b360534a55d2"
# No home, no shell, and a number, so that an orchestrator can see it is not root.
RUN useradd --system --no-create-home --shell /usr/sbin/nologin --uid 10001 odin
COPY deploy/image/sbom.cdx.json /usr/share/doc/odin-ws/
COPY --from=build /opt/odin-ws /opt/odin-ws
ENV PATH=/opt/odin-ws/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001
# WebSocket. Health and metrics at 3003 are the container's own until WS_OPS_ADDR=:3003 opens them.
EXPOSE 3002
# Liveness, not readiness: an instance without Kafka is not to be restarted.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; port = os.environ.get('WS_OPS_ADDR', ':3003').rpartition(':')[2]; r.urlopen(f'http://127.0.0.1:{port}/health/live', timeout=3)"]
# In exec form, so that SIGTERM reaches the server and not a shell. No init is needed: the server
# handles signals as process 1, and waits for each process that it starts.
ENTRYPOINT ["odin-ws"]
CMD ["serve"]
