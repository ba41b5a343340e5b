# An application for examples and tests: Python that can encrypt a file with the key it was given.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG BUILDER_IMAGE=${BASE_IMAGE}

FROM ${BUILDER_IMAGE} AS builder
COPY hack/testcluster/images/app.lock /tmp/app.lock
RUN python3 -m pip install --no-cache-dir --require-hashes --no-deps --target /opt/dependencies -r /tmp/app.lock

FROM ${BASE_IMAGE}
COPY --from=builder /opt/dependencies /opt/dependencies
ENV PYTHONPATH=/opt/dependencies PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
CMD ["python3"]
