# One verb a habit. `make` alone says which.

GO       ?= go
FUZZTIME ?= 10s
BENCH    ?= .

GOLANGCI_LINT_VERSION := v2.15.0
GOVULNCHECK_VERSION   := v1.9.0

BIN  := $(CURDIR)/.bin
LINT := $(BIN)/golangci-lint
VULN := $(BIN)/govulncheck

# Apache Kafka's jars, for the tests that stand on the real thing.
KAFKA_LIB   := $(BIN)/kafka/lib
KAFKA_STAMP := $(BIN)/kafka/.stamp
# The packages whose tests use a broker.
KAFKA_PACKAGES := ./internal/testenv/... ./internal/kafka/... ./internal/export/... ./producers/... ./processors/... ./sinks/... ./internal/e2e/...

# A tool's binary is made again when its version here changes.
LINT_STAMP := $(BIN)/.golangci-lint-$(GOLANGCI_LINT_VERSION)
VULN_STAMP := $(BIN)/.govulncheck-$(GOVULNCHECK_VERSION)

.DEFAULT_GOAL := help
.PHONY: help run build test test-at e2e chaos test-kafka test-kafka-cluster test-containers check containers image-digests fmt fmt-check lint vet tidy-check vuln bench microbench fuzz schemas-release tools

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## everything in one process, with its own Kafka and Postgres
	$(GO) run . dev

build: ## the binary, as ./krib
	$(GO) build -o krib .

test: ## all tests but the end-to-end ones; race detector, random order
	$(GO) test -race -shuffle=on -timeout 15m ./...

e2e: ## the whole program: the built binary, kills, clients
	$(GO) test -race -shuffle=on -tags e2e -count=1 -timeout 30m ./internal/e2e/...

test-at: ## the tests as if they began at AT=2028-02-29T23:58:00Z; TEST=packages, TZ moves the zone
	internal/testenv/clock/run "$(AT)" $(if $(filter command line environment,$(origin TEST)),$(TEST))

chaos: ## kill the replicas of the stream a hundred times under load
	KRIB_CHAOS_KILLS=100 $(GO) test -race -tags e2e -count=1 -timeout 30m -v -run TestTwoReplicasOfTheStream ./internal/e2e/...

test-kafka: $(KAFKA_STAMP) ## the integration and e2e tests on a real Apache Kafka; needs a JDK and Maven
	$(ON_KAFKA) -clusters 2 -- $(GO) test $(KAFKA_FLAGS) -p 2 $(KAFKA_PACKAGES)

test-kafka-cluster: $(KAFKA_STAMP) ## the e2e tests on three nodes, one of them killed again and again
	$(ON_KAFKA) -nodes 3 -- $(GO) test $(KAFKA_FLAGS) -p 1 ./internal/testenv/... ./internal/e2e/...

# The packages share clusters that outlive each of them. What is set for other runs is
# not for these.
ON_KAFKA    = $(GO) run ./internal/testenv/apache -lib $(KAFKA_LIB)
KAFKA_FLAGS = -race -shuffle=on -tags "e2e kafka" -count=1 -timeout 30m

test-containers: ## the tests on Apache Kafka and PostgreSQL in containers; TEST=packages
	cd deploy/containers && $(GO) run . -C $(CURDIR) -- $(GO) test -race -shuffle=on -count=1 -timeout 30m $(TEST)

TEST ?= $(filter-out ./internal/e2e/...,$(KAFKA_PACKAGES))

schemas-release: ## keep the schemas of today as VERSION, for ever
	@test -n "$(VERSION)" && ! test -e schemas/released/$(VERSION) || { echo "schemas-release: VERSION=x.y.z that is not there yet" >&2; exit 1; }
	mkdir -p schemas/released/$(VERSION)/samples
	cp schemas/v1/*.json schemas/released/$(VERSION)/
	cp schemas/testdata/v1/*.json schemas/released/$(VERSION)/samples/
	cd schemas/released && find . -name '*.json' | sed 's|^\./||' | LC_ALL=C sort | xargs sha256sum > SHA256SUMS

check: fmt-check lint vet tidy-check containers vuln ## all that is checked without running the program

# Which images the files name, and what their tags are now. It changes nothing: a new
# digest is a change to review, in deploy/Dockerfile, docker-compose.yml and
# deploy/containers/main.go.
image-digests: ## the base images, their pinned digests and the ones that the tags have today
	@grep -ohE '[a-z/]+:[0-9.]+@sha256:[0-9a-f]{64}' deploy/Dockerfile docker-compose.yml deploy/containers/main.go | sort -u | \
	while IFS=@ read -r image pinned; do \
		now=$$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$$image") || exit 1; \
		test "$$now" = "$$pinned" && echo "$$image: $$pinned is what the tag has" || echo "$$image: $$pinned is pinned, the tag has $$now"; \
	done

fmt: $(LINT_STAMP) ## format the code
	$(LINT) fmt

fmt-check: $(LINT_STAMP)
	$(LINT) fmt --diff

lint: $(LINT_STAMP) ## run the linters
	$(LINT) run ./...

vet:
	$(GO) vet ./...
	$(GO) vet -tags "e2e kafka" ./...

tidy-check:
	$(GO) mod tidy -diff

# A module of its own: what starts containers stays out of the program's go.sum.
containers: $(LINT_STAMP)
	cd deploy/containers && $(GO) vet ./... && $(GO) mod tidy -diff && $(LINT) run ./... && $(LINT) fmt --diff ./... && $(GO) test ./...

# govulncheck ends with 3 when it found something. Any other failure means that it
# could not look (no network, no database): said, and no reason to stop.
vuln: ## look for known vulnerabilities in what we call
	@if ! $(MAKE) --no-print-directory $(VULN_STAMP); then \
		echo "vuln: NOT CHECKED: govulncheck $(GOVULNCHECK_VERSION) could not be installed"; exit 0; \
	fi; \
	$(VULN) ./...; code=$$?; \
	case $$code in \
		0) ;; \
		3) echo "vuln: govulncheck found vulnerabilities"; exit 3 ;; \
		*) echo "vuln: NOT CHECKED: govulncheck ended with $$code, see above" ;; \
	esac

bench: build ## measure the whole program, beside the raw limits; docs/BENCHMARKS.md
	./krib bench $(BENCHFLAGS)

microbench: ## run the benchmarks of the packages; BENCH=regexp picks some
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

fuzz: ## run each fuzz target for FUZZTIME (10s)
	@grep -rnoE --include='*_test.go' --exclude-dir='.*' '^func Fuzz[A-Za-z0-9_]*' $(CURDIR) | sed 's/:[0-9]*:func /:/' | sort | \
	while IFS=: read -r file name; do \
		echo "fuzz: $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x "$$(dirname "$$file")" </dev/null || exit 1; \
	done

tools: $(LINT_STAMP) $(VULN_STAMP) ## install the pinned tools into .bin

$(LINT_STAMP):
	@mkdir -p $(BIN)
	@$(LINT) version 2>/dev/null | grep -qF ' $(GOLANGCI_LINT_VERSION:v%=%) ' || \
		GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@rm -f $(BIN)/.golangci-lint-* && touch $@

$(KAFKA_STAMP): deploy/kafka/pom.xml
	@command -v java >/dev/null && command -v mvn >/dev/null || { echo "a JDK (17 or later) and Maven are needed: apt-get install default-jre-headless maven"; exit 1; }
	@rm -rf $(BIN)/kafka && mkdir -p $(KAFKA_LIB)
	mvn -B -q -f deploy/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=$(KAFKA_LIB)
	@touch $@

$(VULN_STAMP):
	@mkdir -p $(BIN)
	GOBIN=$(BIN) $(GO) install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)
	@rm -f $(BIN)/.govulncheck-* && touch $@
