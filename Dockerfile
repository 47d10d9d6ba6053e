# The newest supported Python: constraints.txt resolves on each from 3.11 on.
ARG PYTHON_IMAGE=python:3.14.8-slim-trixie

FROM ${PYTHON_IMAGE} AS build
RUN python -m venv /opt/odin-ws
WORKDIR /build
COPY pyproject.toml constraints.txt ./
COPY clients/python clients/python
COPY src src
RUN /opt/odin-ws/bin/pip install --no-cache-dir --constraint constraints.txt ./clients/python .

FROM ${PYTHON_IMAGE}
# No home, no shell, and a number, so that an orchestrator can see it is not root.
RUN useradd --system --no-create-home --shell /usr/sbin/nologin --uid 10001 odin
COPY --from=build /opt/odin-ws /opt/odin-ws
ENV PATH=/opt/odin-ws/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001
# WebSocket. Health and metrics at 3003 are the container's own until WS_OPS_ADDR=:3003 opens them.
EXPOSE 3002
# In exec form, so that SIGTERM reaches the server and not a shell.
ENTRYPOINT ["odin-ws"]
CMD ["serve"]
