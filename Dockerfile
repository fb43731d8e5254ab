# The service on a slim base. Build:  docker build -t netdiag .
# Run beside a site's bus, on the host's network, with the right to open raw sockets and nothing else:
#   docker run --network host --cap-drop ALL --cap-add NET_RAW \
#     -v /tmp:/tmp -v /usr/local/etc/config:/usr/local/etc/config:ro -v netdiag-state:/var/lib/netdiag netdiag
FROM rust:1-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends libpcap-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends libpcap0.8 libcap2-bin && rm -rf /var/lib/apt/lists/* \
 && useradd --system --home-dir /var/lib/netdiag --create-home netdiag
COPY --from=build /src/target/release/netdiag /usr/local/bin/netdiag
# The file capability lets the unprivileged user use the NET_RAW that the container is given.
RUN setcap cap_net_raw+ep /usr/local/bin/netdiag
USER netdiag
VOLUME /var/lib/netdiag
ENTRYPOINT ["netdiag"]
CMD ["serve"]
