# The service as an image: `docker build -t feature-agent .`
#
#   --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:…   the base by digest, or from a registry of your own
#   --build-arg PIP_INDEX_URL=… --build-arg UV_DEFAULT_INDEX=…    another package index (an address without credentials)
#   --secret id=netrc,src=$HOME/.netrc                            its credentials; they stay out of every layer
#   --build-arg VERSION=… --build-arg REVISION=…                  for the labels
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    UV_COMPILE_BYTECODE=1 \
    UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /build

# Dependencies first and by hash: this layer changes with the locks alone.
COPY requirements/bootstrap.lock requirements/runtime.lock requirements/
RUN --mount=type=secret,id=netrc \
    export NETRC=/run/secrets/netrc \
    && python -m venv /opt/tools \
    && /opt/tools/bin/pip install --quiet --require-hashes -r requirements/bootstrap.lock \
    && python -m venv --without-pip /opt/feature-agent \
    && /opt/tools/bin/uv pip install --quiet --python /opt/feature-agent/bin/python --require-hashes -r requirements/runtime.lock

COPY pyproject.toml README.md LICENSE ./
COPY service/ service/
COPY tools/ tools/
COPY embedded_postgres/ embedded_postgres/
RUN /opt/tools/bin/hatchling build -t wheel -d dist \
    && /opt/tools/bin/uv pip install --quiet --offline --python /opt/feature-agent/bin/python --no-deps dist/*.whl


FROM ${PYTHON_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="feature-agent" \
      org.opencontainers.image.description="A sentence in, validated machine-learning features out, as an observable service." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# The account has a name because PostgreSQL's initdb asks for one; the number is what Kubernetes checks.
RUN groupadd --gid 10001 feature-agent \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin feature-agent \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data
COPY --from=build /opt/feature-agent /opt/feature-agent

# Nothing is written outside /data and /tmp, so the root file system may be read-only.
ENV PATH="/opt/feature-agent/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    PYTHONUNBUFFERED=1 \
    PYDANTIC_AI_NO_BANNER=1 \
    HOME=/data \
    DATA_DIR=/data \
    HOST=0.0.0.0
WORKDIR /opt/feature-agent
USER 10001:10001
VOLUME ["/data"]
EXPOSE 8000 8090

# Liveness alone: a database that is away must not get the container restarted. A proxy of the environment is passed by.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(f\"http://127.0.0.1:{os.environ.get('PORT', '8000')}/health/live\", timeout=4)"]

ENTRYPOINT ["feature-agent"]
CMD ["serve"]
