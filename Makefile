# The one list of commands.
.PHONY: check test e2e playground

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

test:
	cargo test --workspace

e2e:
	cargo run --release -p e2e -- run

playground:
	cargo run --release -p playground
