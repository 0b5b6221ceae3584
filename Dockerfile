# Three stages: build the wheel, put it and its pinned dependencies into a virtual environment, and
# copy that environment into an image that has no compiler, no pip and no sources.

FROM python:3.12-slim AS wheel
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements-dev.lock ./
# All of the lock, though only the builder is needed: it is the one way to have that with its hashes.
RUN pip install --require-hashes --only-binary :all: -r requirements-dev.lock
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY sql sql
COPY sync sync
RUN python -m hatchling build --target wheel --directory /dist

FROM python:3.12-slim AS environment
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/shopsync
COPY requirements.lock ./
# Before the wheel: this layer stays as it is until the lock changes.
RUN pip --python /opt/shopsync/bin/python install --require-hashes --only-binary :all: -r requirements.lock
COPY --from=wheel /dist /dist
RUN pip --python /opt/shopsync/bin/python install --no-index --no-deps /dist/*.whl

FROM python:3.12-slim
LABEL org.opencontainers.image.title="shopsync" \
      org.opencontainers.image.description="Copies TikTok Shops into Postgres and keeps the copy true" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number, so that an orchestrator can see that it is not root.
RUN groupadd --system --gid 10001 shopsync \
 && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/shopsync --create-home shopsync
COPY --from=environment /opt/shopsync /opt/shopsync
# The data directory is written to by the embedded PostgreSQL only; with SHOPSYNC_DATABASE_URL the
# root file system may be read-only. The address stays at loopback: see docs/operations.md.
ENV PATH=/opt/shopsync/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    SHOPSYNC_DATA_DIR=/var/lib/shopsync
WORKDIR /var/lib/shopsync
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('SHOPSYNC_WEB__PORT') or 8080), timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["shopsync"]
CMD ["run"]
