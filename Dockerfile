# docker build --target cpu -t mlrec:cpu .      then: docker run --rm -v "$PWD:/work" mlrec:cpu demo
# docker build --target cuda -t mlrec:cuda .    then: docker run --rm --gpus all --shm-size 8g -v "$PWD:/work" mlrec:cuda doctor
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY mlrec mlrec
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 1000 mlrec && mkdir /work && chown mlrec /work
WORKDIR /work
ENTRYPOINT ["mlrec"]
CMD ["--help"]

# torch without CUDA
FROM base AS cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY --from=build /wheels /wheels
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" torch torchvision \
    && set -- /wheels/mlrec-*.whl && pip install --no-cache-dir "$1[demo,onnx]"
USER 1000

# torch of the package index, which brings the CUDA libraries; the host needs the driver and the NVIDIA container toolkit
FROM base AS cuda
COPY --from=build /wheels /wheels
# hadolint ignore=DL3013
RUN set -- /wheels/mlrec-*.whl && pip install --no-cache-dir "$1[demo,onnx,tensorboard]"
USER 1000
