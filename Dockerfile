#   docker build -t deepfn .
#   docker build --build-arg BUILD_BASE=… --build-arg RUN_BASE=… --build-arg MODELS="ocr-line" .
#
# BUILD_BASE needs Go 1.26, gcc and Python 3 with pip or venv; RUN_BASE needs Python 3 and glibc 2.28.
ARG BUILD_BASE=golang:1.26-bookworm
ARG RUN_BASE=python:3.11-slim-bookworm

FROM ${BUILD_BASE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY actions actions
COPY cmd cmd
COPY proxy proxy
COPY runtime runtime
RUN go build -trimpath -ldflags="-s -w" -o /out/bin/deepfn ./cmd/deepfn

# What the models need, by content, in layers that change only when they do: ONNX
# Runtime's library in one, the weights in another.
FROM build AS fetch
ARG MODELS="ocr-line text-angle"
RUN DEEPFN_CACHE=/out/weights /out/bin/deepfn models fetch ${MODELS} \
 && mkdir -p /out/library/sha256 \
 && mv $(dirname /out/weights/sha256/*/libonnxruntime.so.*) /out/library/sha256/ \
 && rm -rf /out/weights/pip

FROM ${RUN_BASE}
RUN useradd --uid 10001 --user-group --create-home --home-dir /home/deepfn --shell /usr/sbin/nologin deepfn
# Optimised models are written beside what was fetched, so the user owns the folder.
COPY --from=fetch --chown=10001:10001 /out/library /var/cache/deepfn
COPY --from=fetch --chown=10001:10001 /out/weights /var/cache/deepfn
COPY --from=build /out/bin/deepfn /usr/local/bin/deepfn
ENV DEEPFN_CACHE=/var/cache/deepfn DEEPFN_LISTEN=0.0.0.0:8080
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=3s --start-period=20s \
  CMD ["deepfn", "healthcheck"]
ENTRYPOINT ["deepfn", "serve"]
