# All that the course needs, for macOS, Windows and a Linux that is too old. .devcontainer uses it; by hand:
#
#   docker build -t http-step-by-step - < Dockerfile
#   docker run -it --rm -p 8080:8080 --security-opt seccomp=unconfined -v "$PWD:/course" http-step-by-step
#
# and in it, since 127.0.0.1 would be the container's own: cargo run -p step03-static-files -- -b 0.0.0.0
FROM rust:1.95-slim-trixie
# No versions: Debian keeps only the newest one of a package, so any that is named would soon be gone.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        curl git iproute2 netcat-openbsd procps python3 strace \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /course
CMD ["bash"]
