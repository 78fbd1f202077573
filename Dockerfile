# Auto-Defender for a scheduled container (Fargate, any host): the same runs, the same lock in the report bucket.
#
#   docker build -t auto-defender .
#   docker run --rm -e AWS_REGION -e AWS_ACCESS_KEY_ID -e AWS_SECRET_ACCESS_KEY -e AWS_SESSION_TOKEN \
#     auto-defender run --config ssm:/auto-defender/configuration
#
# What it installs is the lock, by hash, and this program; nothing is compiled, nothing is left of the build.

FROM python:3.11-slim AS build
WORKDIR /build
RUN python -m venv --without-pip /opt/auto-defender
COPY requirements.txt requirements-demo.txt ./
RUN pip --python /opt/auto-defender/bin/python install --no-cache-dir --disable-pip-version-check \
      --no-deps --only-binary :all: --require-hashes --requirement requirements.txt
# setuptools, which builds the program's own wheel, comes from a lock as well.
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes --requirement requirements-demo.txt
COPY pyproject.toml README.md ./
COPY scanner scanner
COPY storage storage
COPY remediator remediator
COPY reports reports
COPY auto_defender auto_defender
RUN pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-index --no-build-isolation \
      --wheel-dir wheels . \
 && pip --python /opt/auto-defender/bin/python install --no-cache-dir --disable-pip-version-check \
      --no-deps --no-index wheels/*.whl \
 && /opt/auto-defender/bin/python -m compileall -q /opt/auto-defender

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home auto-defender
COPY --from=build /opt/auto-defender /opt/auto-defender
ENV PATH=/opt/auto-defender/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
# Files of a run are put together here before they go to the bucket: mount a volume where the root is read-only.
WORKDIR /tmp
ENTRYPOINT ["auto-defender"]
CMD ["--help"]
