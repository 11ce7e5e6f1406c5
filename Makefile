# `make run` starts the service, `make test` runs every test, `make lint` is what CI asks before.

.PHONY: run test lint bench

run:
	cargo run --release

test:
	scripts/test-tools.sh
	@mkdir -p target && rm -f target/test-times
	PASSLOOM_TEST_TIMES=$(CURDIR)/target/test-times cargo test --features crash-points
	@echo "The slowest tests, in seconds:" && sort -rn target/test-times | head -n 10

lint:
	cargo fmt --check
	cargo clippy --all-targets --features crash-points -- -D warnings

bench:
	cargo bench
