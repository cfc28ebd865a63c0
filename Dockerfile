# One image for every role; the command says which (see docker-compose.yml).

FROM python:3.12-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/celeriac
WORKDIR /src
COPY requirements.lock ./
RUN /opt/celeriac/bin/pip install --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY conversations ./conversations
COPY orchestrator ./orchestrator
COPY workers ./workers
RUN /opt/celeriac/bin/pip install --no-deps --no-build-isolation . \
    && /opt/celeriac/bin/pip uninstall --yes setuptools

FROM python:3.12-slim
RUN useradd --uid 10001 --user-group --no-create-home celeriac
COPY --from=build /opt/celeriac /opt/celeriac
WORKDIR /app
COPY celeryconfig.py flowerconfig.py celeriac.yaml ./
ENV PATH=/opt/celeriac/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
CMD ["python", "-m", "workers", "--loglevel", "INFO"]
