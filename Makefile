# `make run` starts the service, `make test` runs every test, `make lint` is what CI asks before.

.PHONY: run test lint bench

run:
	cargo run --release

test:
	scripts/test-tools.sh
	cargo test --features crash-points

lint:
	cargo fmt --check
	cargo clippy --all-targets --features crash-points -- -D warnings

bench:
	cargo bench
