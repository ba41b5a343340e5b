# One target per process. Each image holds the contract, its own room and the libraries that its lock
# file pins, and nothing else: no other room can be imported in it, not even by mistake.
#
#   docker build --target keyservice --tag datakeys-keyservice:dev .

ARG BASE_IMAGE=python:3.11-slim-bookworm
# Needs pip, which the base may lack; the same Python otherwise.
ARG BUILDER_IMAGE=${BASE_IMAGE}

# Builders do all the work, so that the final stages only copy and no tool is left in them.
FROM ${BUILDER_IMAGE} AS builder
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

FROM builder AS controller-builder
COPY requirements/controller.lock requirements.lock
RUN python3 -m pip install --require-hashes --no-deps --no-compile --target /opt/dependencies -r requirements.lock \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/dependencies
COPY operator/datakeys/__init__.py /opt/datakeys-app/datakeys/
COPY operator/datakeys/contract /opt/datakeys-app/datakeys/contract
COPY operator/datakeys/controller /opt/datakeys-app/datakeys/controller
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/datakeys-app

FROM builder AS webhook-builder
COPY requirements/webhook.lock requirements.lock
RUN python3 -m pip install --require-hashes --no-deps --no-compile --target /opt/dependencies -r requirements.lock \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/dependencies
COPY operator/datakeys/__init__.py /opt/datakeys-app/datakeys/
COPY operator/datakeys/contract /opt/datakeys-app/datakeys/contract
COPY operator/datakeys/webhook /opt/datakeys-app/datakeys/webhook
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/datakeys-app

FROM builder AS keyservice-builder
COPY requirements/keyservice.lock requirements.lock
RUN python3 -m pip install --require-hashes --no-deps --no-compile --target /opt/dependencies -r requirements.lock \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/dependencies
COPY operator/datakeys/__init__.py /opt/datakeys-app/datakeys/
COPY operator/datakeys/contract /opt/datakeys-app/datakeys/contract
COPY operator/datakeys/keyservice /opt/datakeys-app/datakeys/keyservice
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/datakeys-app

# The sidecar stands beside the plaintext: standard library only.
FROM builder AS sidecar-builder
COPY operator/datakeys/__init__.py /opt/datakeys-app/datakeys/
COPY operator/datakeys/contract /opt/datakeys-app/datakeys/contract
COPY operator/datakeys/sidecar /opt/datakeys-app/datakeys/sidecar
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/datakeys-app \
    && mkdir /opt/bin && ln -s /opt/datakeys-app/datakeys/sidecar/__main__.py /opt/bin/datakeys-sidecar \
    && chmod 0755 /opt/datakeys-app/datakeys/sidecar/__main__.py

# Bytecode is made above because the root file system is read-only where these images run. The code
# belongs to root, and nothing is imported from the working directory, which a Pod may choose.
FROM ${BASE_IMAGE} AS runtime
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 PYTHONPATH=/opt/datakeys-app
USER 65532:65532

FROM runtime AS controller
ENV PYTHONPATH=/opt/datakeys-app:/opt/dependencies
COPY --from=controller-builder /opt/dependencies /opt/dependencies
COPY --from=controller-builder /opt/datakeys-app /opt/datakeys-app
ENTRYPOINT ["python3", "-m", "datakeys.controller"]

FROM runtime AS webhook
ENV PYTHONPATH=/opt/datakeys-app:/opt/dependencies
COPY --from=webhook-builder /opt/dependencies /opt/dependencies
COPY --from=webhook-builder /opt/datakeys-app /opt/datakeys-app
ENTRYPOINT ["python3", "-m", "datakeys.webhook"]

FROM runtime AS keyservice
ENV PYTHONPATH=/opt/datakeys-app:/opt/dependencies
COPY --from=keyservice-builder /opt/dependencies /opt/dependencies
COPY --from=keyservice-builder /opt/datakeys-app /opt/datakeys-app
ENTRYPOINT ["python3", "-m", "datakeys.keyservice"]

# Starts by GNU env (coreutils 8.31 or newer), which the base must have.
FROM runtime AS sidecar
COPY --from=sidecar-builder /opt/datakeys-app /opt/datakeys-app
COPY --from=sidecar-builder /opt/bin /usr/local/bin
ENTRYPOINT ["datakeys-sidecar"]
