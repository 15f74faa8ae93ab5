SHELL := /bin/bash
.DEFAULT_GOAL := help

# The version that the commands report: the tag that is checked out, else the tag that an image is pushed with, else "dev".
VERSION ?= $(or $(shell git describe --tags --exact-match --dirty 2>/dev/null),$(lastword $(subst :, ,$(notdir $(PUSH)))),dev)
CONTROLLER_GEN := go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.22.0
HELM := go run -trimpath helm.sh/helm/v4/cmd/helm@v4.3.1
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: help
help: ## list the targets
	@awk 'BEGIN{FS=":.*## "} /^[a-z0-9-]+:.*## /{printf "  %-16s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the commands into bin/, kubectl-tcr among them
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/ ./cmd/...

.PHONY: run
run: ## run the main job on a control plane of its own, until Ctrl-C
	@cd test && go build -o ../bin/demo ./tools/demo && exec ../bin/demo

.PHONY: test
test: unit test-image integration ## run every test but those of e2e and chaos

.PHONY: unit
unit: ## run the tests of the product module
	go vet ./...
	go test ./...

# Only these tests need the webhook, its configurations or its certificate: all others must pass without it, too.
WEBHOOK := ^Test(AFollowerIsSentNoCredential|ASecretInTheWayOfTheCertificateIsReplaced|AdmissionNeverFails|AnAPIServerThatShowsNoCertificateIsRefused|AnUpdateSwitchesTheWebhookOn|CallersWhoReadNoAnswersDoNotEndTheManager|EtcdIsRestored|Fight|HostileCallersNeitherEndTheManagerNorSilenceIt|KubectlShowsWhatIsWrong|Leadership|OnlyAPIServersCallTheWebhook|OwnWritesAreNotAskedAbout|OwnersWhereTheyAreEnforced|RoleMadeAnew|SpecsAreJudgedAlike|StartDuringAnOutage|TheCertificateComesFromTheClustersSigner|ThePasswordAppearsNowhere|TheWebhookConfigurationsAreKept|TheWebhookForPodsIsThereWhileItIsAskedFor)$$

# Admission plays no part in how a credential is obtained, kept, renewed and revoked, in private addresses, or in healing: these tests
# are run once, with the webhook.
ALIKE := ^Test(ACredentialStandsInASecret|ACredentialThatCannotBeRead|AFailingRenewalSaysWhatToDoAndTakesNothingAway|AnAnswerAboutAnotherInstanceIsRefused|AnUninstallRevokesTokens|APasswordThatIsPutRightReachesPodsDeepInTheirBackoff|AReferenceThatBreaksWhileNobodyLeads|AtMostFivePodsAreEvictedInASecond|CleanupWhileNoManagerRuns|ManyReferencesCostOneWatch|NobodyIsRefusedWhileTokensAreRotated|PodsAreHealedAfterTheAPIServerWasAway|ReferencesWithoutPermission|TheAPIServerTellsWhichPodsItEvicts|TheCloudIssuesTheCredential|TheNodesRoleCalls|ThePrivateAddressIsPublished|TokensGoWithTheirObject|WhatALineMustNotFollowFromIsRefusedAndTold|WhatIsStoredIsIssuedWhileTheCloudIsAway|WhatTheAPIServerDoesNotLetGoIsTriedAgainLater|WithoutThePermissionNoPodIsHealed)$$

# What is started only for a test lives for seconds, so it collects no garbage below 600 MiB. The product runs as always.
FRUGAL := GOGC=off GOMEMLIMIT=600MiB

# Tests with time limits of less than half a minute run alone. The others run in parallel, each in a world of its own: they mostly wait.
.PHONY: integration
integration: controlplane prometheus registry ## run the tests against a real control plane
	cd test && go vet ./... && $(FRUGAL) go test -p 1 -parallel 6 -count=1 -timeout 45m ./suites/integration
	cd test && TCR_ASSISTANT_WEBHOOK=false $(FRUGAL) go test -p 1 -parallel 6 -count=1 -timeout 20m -skip '$(WEBHOOK)|$(ALIKE)' ./suites/integration
	cd test && $(FRUGAL) go test -p 3 -parallel 4 -count=1 -timeout 45m $$(go list ./... | grep -v -e /harness/machine -e /harness/node -e /suites/chaos -e /suites/e2e -e /suites/integration)

SEED ?= 1,2,3
DURATION ?= 30s
KEEP ?=

.PHONY: chaos
chaos: controlplane ## look for bugs with random faults; SEED=7,10-20 plays these seeds, each for DURATION=30s; KEEP=dir keeps what led to a failure
	cd test && go test -parallel 3 -count=1 -timeout 24h -v ./suites/chaos -args -seeds=$(SEED) -duration=$(DURATION) -keep=$(abspath $(KEEP))

.PHONY: e2e
e2e: node image ## run the whole story on a real node; needs root on Debian, see docs/testing-on-a-node.md
	cd test && go test -p 1 -parallel 2 -count=1 -timeout 30m -v ./harness/machine ./harness/node ./suites/e2e

.PHONY: node
node: controlplane registry ## build and fetch the parts of a node, once; they are cached outside the checkout
	@cd test && go run ./tools/build-kubernetes -node

.PHONY: registry
registry: ## fetch the registry that tests pull from, and the other Debian packages of a node, once; they are cached outside the checkout
	@test/harness/machine/install

.PHONY: controlplane
controlplane: ## build the Kubernetes that tests run on, once; it is cached outside the checkout
	@cd test && go run ./tools/build-kubernetes

.PHONY: prometheus
prometheus: ## fetch the prometheus that tests run, once; it is cached outside the checkout
	@test/harness/prometheus/install

.PHONY: bench
bench: controlplane ## run the benchmarks and compare with bare writes of the same run; ONLY=memory,... runs only these
	cd test && go run ./tools/bench -only "$(ONLY)" -json ../docs/benchmarks.json -plot ../docs/benchmarks.svg

.PHONY: bench-check
bench-check: controlplane ## fail if a ratio or a count is worse than test/tools/bench/baseline.json by more than 25 %
	cd test && go run ./tools/bench -short -baseline tools/bench/baseline.json

.PHONY: bench-baseline
bench-baseline: controlplane ## measure again the baseline that bench-check compares with
	cd test && go run ./tools/bench -short -json tools/bench/baseline.json

.PHONY: fuzz
fuzz: ## run every fuzz target, for a minute each
	go test ./pullsecret -run '^$$' -fuzz FuzzParseSelector -fuzztime 1m
	go test ./pullsecret -run '^$$' -fuzz FuzzCheckServer -fuzztime 1m
	go test ./pullsecret -run '^$$' -fuzz FuzzEdits -fuzztime 1m
	go test ./webhook -run '^$$' -fuzz FuzzHandler -fuzztime 1m
	go test ./credential/rotation -run '^$$' -fuzz FuzzLaws -fuzztime 1m
	go test ./privatenetwork -run '^$$' -fuzz FuzzResolve -fuzztime 1m
	go test ./hostsd -run '^$$' -fuzz FuzzEdit -fuzztime 1m
	go test ./hostsd -run '^$$' -fuzz FuzzParseConfig -fuzztime 1m

# test/harness/kubernetes is linted with the flags that it is built with, so that Kubernetes is not compiled a second time.
.PHONY: lint
lint: ## lint every Go module
	@set -e; for module in $$(git ls-files '*go.mod'); do \
		folder=$$(dirname $$module); flags=; \
		if [ $$folder = test/harness/kubernetes ]; then flags="CGO_ENABLED=0 GOFLAGS=-trimpath"; fi; \
		echo "Linting $$folder."; \
		(cd $$folder && go run -exec "env $$flags" $(GOLANGCI_LINT) run --allow-parallel-runners ./...); \
	done

.PHONY: generate
generate: ## regenerate every generated file
	$(CONTROLLER_GEN) object paths=./api/...
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:dir=deploy/chart/crds
	$(MAKE) --no-print-directory manifests

.PHONY: verify
verify: generate ## fail if a generated file is outdated
	git diff --exit-code -- api deploy

# --- chart and manifests ---

define NAMESPACE
# Generated from deploy/chart by "make manifests".
#
# Before you apply it, replace tcr-assistant.invalid/tcr-assistant by your image: nobody can own that name, so nothing can be pulled from
# it. "make image PUSH=registry.example.com/tcr-assistant:v0.1.0" pushes an image, "make image VERSION=v0.1.0" writes an archive with
# that name, to be loaded into the nodes.
#
#   sed 's|tcr-assistant.invalid/tcr-assistant:|registry.example.com/tcr-assistant:|' tcr-assistant.yaml | kubectl apply -f -
#
# It contains no credentials: create ImagePullSecrets after you have applied it.
apiVersion: v1
kind: Namespace
metadata:
  name: tcr-assistant-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
---
endef
export NAMESPACE

.PHONY: manifests
manifests: ## render the all-in-one manifests from the chart, and copy into the chart what has its source elsewhere
	cp deploy/monitoring/prometheusrule.yaml deploy/chart/files/
	{ printf '%s\n' "$$NAMESPACE" && $(HELM) template tcr-assistant deploy/chart --namespace tcr-assistant-system \
		--set image.repository=tcr-assistant.invalid/tcr-assistant --kube-version v1.30.0 --include-crds --no-hooks; } > deploy/allinone/tcr-assistant.yaml.new
	mv deploy/allinone/tcr-assistant.yaml.new deploy/allinone/tcr-assistant.yaml

# --- image ---

.PHONY: image
image: ## build the image for all platforms into dist/image and dist/image.tar; PUSH=host/path:tag pushes it too
	cd deploy/image && go run . -source ../.. -version $(VERSION) -out ../../dist/image -shown dist/image $(if $(PUSH),-push $(PUSH))

.PHONY: test-image
test-image: ## test the image: two builds, one digest
	cd deploy/image && go vet ./... && go test -count=1 -timeout 20m ./...

# --- kubectl tcr ---

KREW_URL ?= https://tcr-assistant.invalid/$(VERSION)
HOMEPAGE ?= https://tcr-assistant.invalid

.PHONY: krew
krew: ## build kubectl tcr for all platforms into dist/krew, with its manifest; KREW_URL=https://... is where the archives will be
	@case $(VERSION) in v*) ;; *) echo "krew takes versions like v0.1.0: make krew VERSION=v0.1.0" >&2; exit 1;; esac
	rm -rf dist/krew && mkdir -p dist/krew
	sed -e 's|@VERSION@|$(VERSION)|; s|@URL@|$(KREW_URL)|; s|@HOMEPAGE@|$(HOMEPAGE)|' deploy/krew/tcr.yaml > dist/krew/tcr.yaml
	@set -e; for platform in $$(sed -n 's/.*"@\([a-z]*_[a-z0-9]*\)@".*/\1/p' deploy/krew/tcr.yaml); do \
		echo "Building kubectl-tcr for $$platform."; \
		folder=dist/krew/$$platform; archive=dist/krew/kubectl-tcr_$$platform.tar.gz; \
		CGO_ENABLED=0 GOOS=$${platform%_*} GOARCH=$${platform#*_} go build -trimpath -buildvcs=false \
			-ldflags "-s -w -buildid= -X main.version=$(VERSION)" -o $$folder/ ./cmd/kubectl-tcr; \
		tar -C $$folder --owner=0 --group=0 --numeric-owner --mtime=@0 --mode=0755 -cf - $$(ls $$folder) | gzip -n > $$archive; \
		sed -i "s/@$$platform@/$$(sha256sum $$archive | cut -d' ' -f1)/" dist/krew/tcr.yaml; \
		rm -r $$folder; \
	done

# --- the oldest Kubernetes ---

.PHONY: test-oldest
test-oldest: ## run the tests against the oldest supported Kubernetes; building that takes minutes, once
	cd test && go run ./tools/build-kubernetes -version v1.30.14
	cd test && TCR_ASSISTANT_KUBERNETES=v1.30.14 go test -p 1 -parallel 4 -count=1 -timeout 60m ./suites/integration ./suites/install
