# Two commands do everything on a fresh machine that has cargo and apt (as root or with sudo):
#
#   make demo    runs a connectivity test on a simulated site and prints the verdicts
#   make test    checks format, lints and docs, and runs all tests against real peers
#
# Both first install what is missing, and say what they do.

SHELL := /bin/bash
CARGO ?= cargo
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PEERS := target/peers
PYTHON ?= $(shell command -v python3.11 || command -v python3)

.PHONY: demo test setup setup-test build bench fuzz schemas clean

demo: setup
	@$(CARGO) build
	@target/debug/netdiag demo

build: setup
	$(CARGO) build --release

# The library to capture with, and the tools that the tests look over our shoulder with.
setup:
	@missing=""; \
	[ -e /usr/include/pcap/pcap.h ] || missing="$$missing libpcap-dev"; \
	command -v cc >/dev/null || missing="$$missing gcc"; \
	command -v ip >/dev/null || missing="$$missing iproute2"; \
	if [ -n "$$missing" ]; then \
		echo "installing$$missing (apt)"; \
		$(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

setup-test: setup $(PEERS)/ready
	@command -v tshark >/dev/null || { \
		echo "installing tshark (apt), the second opinion on captures"; \
		$(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends tshark >/dev/null; \
	}

	@command -v dropbear >/dev/null || { \
		echo "installing dropbear-bin (apt), a secure shell to be greeted by; it is started by the tests only"; \
		$(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends dropbear-bin >/dev/null; \
	}

	@command -v influxd >/dev/null || { \
		echo "installing influxdb (apt), to write time series to; the tests start one of their own"; \
		$(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends influxdb >/dev/null; \
	}

# Real peers for the tests: a Modbus server and a DNP3 outstation and master that are not ours.
$(PEERS)/ready: integration/peers/requirements.txt
	@echo "installing the peers that the tests talk to (pip, into $(PEERS))"
	@$(PYTHON) -m venv $(PEERS) 2>/dev/null || { \
		$(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null && \
		$(PYTHON) -m venv $(PEERS); \
	}
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r integration/peers/requirements.txt
	@touch $@

test: setup-test
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --all-targets -- -D warnings
	$(CARGO) clippy --quiet --no-default-features --lib --bins -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --no-deps
	$(CARGO) build --quiet --bins
	NETDIAG_REQUIRE_PEERS=1 $(CARGO) test --quiet --no-fail-fast

bench: setup
	$(CARGO) bench

# Needs cargo-fuzz and a nightly toolchain: make fuzz TARGET=fims_codec
fuzz:
	$(CARGO) fuzz run $(TARGET) -- -max_total_time=$(or $(SECONDS),600)

# Writes schemas/ anew after a type of the bus has changed.
schemas:
	NETDIAG_WRITE_SCHEMAS=1 $(CARGO) test --quiet --lib api::schema

clean:
	$(CARGO) clean
