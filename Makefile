# The one list of commands.
.PHONY: check test e2e bench playground

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

test:
	cargo test --workspace

e2e:
	cargo run --release -p e2e -- run

bench:
	cargo run --release -p yurt-bench

playground:
	cargo run --release -p playground
