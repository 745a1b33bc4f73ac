#   docker build -t deepfn .
#   docker build --build-arg BUILD_BASE=… --build-arg RUN_BASE=… --build-arg MODELS="ocr-line" .
#
# BUILD_BASE needs Go 1.26 and gcc; RUN_BASE needs Python 3.8 or later with venv, and glibc 2.28.
# MODELS are what the image holds: a model of the list that it does not hold is fetched when it is
# first used. Modules of your own: FROM deepfn, RUN deepfn add ….
ARG BUILD_BASE=golang:1.26-bookworm
ARG RUN_BASE=python:3.11-slim-bookworm

FROM ${BUILD_BASE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY actions actions
COPY cmd cmd
COPY deploy deploy
COPY proxy proxy
COPY runtime runtime
RUN go build -trimpath -tags disable_grpc_modules -ldflags="-s -w" -o /out/bin/deepfn ./cmd/deepfn

# What the models need, by content, in layers that change only when they do: ONNX
# Runtime's library in one, the rest in another. It is fetched with the interpreter and
# at the place that it will have: an environment of Python remembers both.
FROM ${RUN_BASE} AS fetch
ARG MODELS="ocr-line text-angle"
ENV DEEPFN_CACHE=/var/cache/deepfn
COPY --from=build /out/bin/deepfn /usr/local/bin/deepfn
RUN deepfn models fetch ${MODELS} \
 && mkdir -p /out/library/sha256 \
 && mv $(dirname ${DEEPFN_CACHE}/sha256/*/libonnxruntime.so.*) /out/library/sha256/ \
 && rm -rf ${DEEPFN_CACHE}/pip

FROM ${RUN_BASE}
RUN useradd --uid 10001 --user-group --create-home --home-dir /home/deepfn --shell /usr/sbin/nologin deepfn \
 && install -d -o 10001 -g 10001 /var/lib/deepfn
# Optimised models are written beside what was fetched, so the user owns the folder.
COPY --from=fetch --chown=10001:10001 /out/library /var/cache/deepfn
COPY --from=fetch --chown=10001:10001 /var/cache/deepfn /var/cache/deepfn
COPY --from=build /out/bin/deepfn /usr/local/bin/deepfn
ENV DEEPFN_CACHE=/var/cache/deepfn DEEPFN_DATA=/var/lib/deepfn DEEPFN_LISTEN=0.0.0.0:8080
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=3s --start-period=20s \
  CMD ["deepfn", "healthcheck"]
ENTRYPOINT ["deepfn", "serve"]
