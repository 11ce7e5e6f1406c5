# syntax=docker/dockerfile:1
# Two stages: the first compiles, the second holds the binary and what it needs to run.

FROM rust:1.95.0-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev libssl-dev make pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The image has this version already: nothing may be downloaded for rust-toolchain.toml.
ENV RUSTUP_TOOLCHAIN=1.95.0
# The caches speed up the next build and aren't part of a layer, so the binary is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    make release && cp target/dist/passloom /usr/local/bin/passloom

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/passloom passloom \
    && install -d -o passloom -g passloom -m 0700 /var/lib/passloom
COPY --from=build /usr/local/bin/passloom /usr/local/bin/passloom
USER 10001
WORKDIR /var/lib/passloom
ENV PASSLOOM_LISTEN=0.0.0.0:8080 \
    PASSLOOM_DATA_DIR=/var/lib/passloom
VOLUME /var/lib/passloom
EXPOSE 8080
STOPSIGNAL SIGTERM
# The image has no HTTP client. Bash opens the connection itself.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["passloom"]
CMD ["serve"]
