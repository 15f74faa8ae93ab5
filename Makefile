SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk 'BEGIN{FS=":.*## "} /^[a-z0-9-]+:.*## /{printf "  %-16s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

CONTROLLER_GEN := go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.22.0

.PHONY: generate
generate: ## write every generated file anew
	$(CONTROLLER_GEN) object paths=./api/... 
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:dir=deploy/crd

.PHONY: controlplane
controlplane: ## build the Kubernetes that tests run on, once; it is cached outside the checkout
	@cd test && go run ./cmd/controlplane

.PHONY: run
run: ## run the main job on a control plane of its own, until Ctrl-C
	@cd test && go run ./demo

.PHONY: prometheus
prometheus: ## fetch the prometheus that tests run, once; it is cached outside the checkout
	@test/prometheus/install
