# Each target is one command or one script; without make, call the script itself.
.DEFAULT_GOAL := help
.PHONY: help run test lint fmt bench

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 14

run: ## build and start the server with its defaults; flags of `serve` in ARGS="..."
	@sh scripts/run.sh $(ARGS)

test: ## install what is missing, then lint and run every test, as CI does
	@sh scripts/test.sh

lint: ## only the checks that run nothing: format, protos, dependencies, clippy, documentation
	@sh scripts/test.sh --lint

fmt: ## format the code
	cargo fmt

bench: ## measure against the bounds, a few minutes; BENCH=verify,refresh only these parts, BENCH_SECONDS=12 each
	@sh scripts/bench.sh
