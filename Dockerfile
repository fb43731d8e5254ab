# netdiag on a slim base: the same binary, run by a user without rights but the one to open raw sockets. docs/deploy.md has more.
#
#   docker build -t netdiag --build-arg NETDIAG_COMMIT=$(git rev-parse --short=12 HEAD) .
#   docker run -d --name netdiag --network host --cap-drop ALL --cap-add NET_RAW --read-only \
#     -v /tmp:/tmp -v /usr/local/etc/config:/usr/local/etc/config:ro -v netdiag-state:/var/lib/netdiag netdiag

FROM rust:1-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends libpcap-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The repository is not copied, so the commit is told.
ARG NETDIAG_COMMIT=
RUN cargo build --release --locked --bin netdiag

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends libpcap0.8 libcap2-bin ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 990 --home-dir /var/lib/netdiag --shell /usr/sbin/nologin netdiag \
 && install -d -o netdiag -g netdiag -m 750 /var/lib/netdiag
COPY --from=build /src/target/release/netdiag /usr/bin/netdiag
# What lets a user who is not root use the NET_RAW that the container is given. Here and not before COPY, which may lose it.
RUN setcap cap_net_raw+ep /usr/bin/netdiag
# A number, so that an orchestrator can see that it is not root.
USER 990:990
VOLUME /var/lib/netdiag
# `docker stop` sends SIGTERM, upon which netdiag ends in order.
STOPSIGNAL SIGTERM
ENTRYPOINT ["netdiag"]
CMD ["serve"]
