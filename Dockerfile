# rollcall as one static binary on an otherwise empty image: no shell, no libc, no package.
#
#   docker build --tag rollcall --build-arg REVISION="$(git rev-parse HEAD)" .
#
# tests/image.sh builds this file and proves what docs/operation.md says about the image.

# Any image will do that has this Rust, its musl target and a C compiler.
ARG RUST_IMAGE=rust:1.95-alpine

FROM ${RUST_IMAGE} AS build
RUN if command -v apk; then apk add --no-cache gcc musl-dev; fi
WORKDIR /src

# The target is the machine's own architecture. Rust brings musl and its start files; C is needed
# for two dependencies only, and on Alpine the plain compiler is the one for musl.
RUN target="$(uname -m)-unknown-linux-musl" \
 && mkdir -p .cargo \
 && printf '[build]\ntarget = "%s"\n' "$target" >.cargo/config.toml \
 && if ! command -v musl-gcc; then \
        printf '[env]\nCC_%s = "gcc"\n' "$(echo "$target" | tr - _)" >>.cargo/config.toml; \
    fi

# The dependencies first, below an empty crate: a layer that lasts until Cargo.lock changes. Tests
# and benches stay outside, so the manifest must not name them.
ARG PROFILE=release
COPY Cargo.toml Cargo.lock ./
RUN awk 'BEGIN { keep = 1 } /^\[/ { keep = !/^\[\[(bench|example|test)]]/ } keep' Cargo.toml >slim.toml \
 && mv slim.toml Cargo.toml \
 && mkdir src \
 && echo 'fn main() {}' >src/main.rs \
 && touch src/lib.rs \
 && cargo build --locked --profile "$PROFILE"

# Cargo goes by modification times, and the empty crate above is younger than what is copied here.
ARG REVISION=unknown
ENV ROLLCALL_REVISION=${REVISION}
COPY src src
RUN find src -name '*.rs' -exec touch {} + \
 && cargo build --locked --profile "$PROFILE" \
 && directory="$PROFILE" \
 && if [ "$PROFILE" = dev ]; then directory=debug; fi \
 && mkdir -p /out/binary /out/volume/data \
 && chmod 0700 /out/volume/data \
 && cp "target/$(uname -m)-unknown-linux-musl/$directory/rollcall" /out/binary/

FROM scratch
ARG REVISION=unknown
LABEL org.opencontainers.image.title="rollcall" \
      org.opencontainers.image.description="Health checks, service registry and RED metrics in one daemon" \
      org.opencontainers.image.source="https://github.com/rollcall/rollcall" \
      org.opencontainers.image.documentation="https://github.com/rollcall/rollcall/blob/main/docs/operation.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"

# The binary belongs to root; the daemon's user owns its data and nothing else.
COPY --from=build /out/binary/ /
COPY --from=build --chown=65532:65532 /out/volume/ /

# By number, for the image has no /etc/passwd, and because Kubernetes must see that it is not root.
USER 65532:65532
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8500 8502
ENTRYPOINT ["/rollcall"]
CMD ["run", "--data-dir", "/data"]
