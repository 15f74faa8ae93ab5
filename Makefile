SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk 'BEGIN{FS=":.*## "} /^[a-z0-9-]+:.*## /{printf "  %-16s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

.PHONY: controlplane
controlplane: ## build the Kubernetes that tests run on, once; it is cached outside the checkout
	@cd test && go run ./cmd/controlplane
