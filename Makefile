# Targets of proxyarpd. `make` alone lists them.
#
# Everything that needs the kernel happens in network namespaces of its own;
# test, demo and generate install what they lack on Debian and its relatives.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

GO          ?= go
BIN         := bin/proxyarpd
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 20s
SOAK        ?= 20m
FRAMES      ?= 100000
# Packages in which goroutines share something.
RACE        ?= ./arpd/... ./capture ./capture/source ./forward/... ./internal/conntrack ./internal/control/... ./internal/daemon ./internal/engine/... ./internal/handover ./internal/instance ./internal/livecapture ./internal/logging ./internal/top ./internal/macs ./internal/netstate ./internal/pktring
CLANG_FILE  := forward/claim/bpf/CLANG
CLANG_WANT  := $(shell cat $(CLANG_FILE))
GENERATED   := $(wildcard forward/claim/bpf_bpfe[bl].go forward/claim/bpf_bpfe[bl].o)
ROOT        := $(shell [ "$$(id -u)" = 0 ] && echo yes)
# sbin is not in everybody's PATH, but bird, nft and capsh live there.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## one static binary, bin/proxyarpd
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o $(BIN) ./cmd/proxyarpd

.PHONY: cni
cni: ## the CNI plugin, bin/proxyarpd-cni (docs/CNI.md)
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/proxyarpd-cni ./cmd/proxyarpd-cni

.PHONY: demo
demo: ## two hosts, their pods and proxyarpd in namespaces, shown in a minute (root)
	@[ "$(ROOT)" = yes ] || { echo "make demo needs root: it makes network namespaces (try: sudo make demo)" >&2; exit 1; }
	@scripts/need ip:iproute2 ping:iputils-ping iperf3:iperf3
	@$(MAKE) build
	$(BIN) lab demo

.PHONY: test
test: vet ## vet, unit tests, tests in namespaces (root), race detector
ifeq ($(ROOT),yes)
	@scripts/need ip:iproute2 ping:iputils-ping arping:iputils-arping ndisc6:ndisc6 iperf3:iperf3 tcpdump:tcpdump \
		bird:bird2 nft:nftables iptables:iptables ethtool:ethtool traceroute:traceroute capsh:libcap2-bin gcc:gcc tshark:tshark \
		tmux:tmux promtool:prometheus mtr:mtr-tiny tracepath:iputils-tracepath hping3:hping3 nping:nmap curl:curl /usr/lib/systemd/systemd:systemd /usr/lib/cni/host-local:containernetworking-plugins
	@$(MAKE) -j2 test-all test-race test-ebpf LAB_REQUIRED=1
	@echo "make test: all passed"
else
	@$(MAKE) test-all test-ebpf
	@echo "make test: passed what runs without root; as root it also runs the tests in network namespaces and the race detector"
endif

# The tests wait for the kernel's clocks more than they compute. So three packages are under way at once, on any number
# of CPUs: two here, one of test-race or test-ebpf beside them, and of each up to four tests that may run beside others.
# $(LONGEST) begin first, else the others wait for them at the end.
# Build flags are those of make build and make vet, so that a package is compiled once, and once more for the race detector.
# The limit is for a test that hangs.
TEST_ENV     = LAB_REQUIRED=$(LAB_REQUIRED) PROXYARPD_BIN=$(CURDIR)/$(BIN)
TEST_FLAGS  := -trimpath -vet=off -count=1 -parallel 4 -timeout 20m
LONGEST     := ./test/e2e ./test/failure ./test/capture ./test/differential

.PHONY: test-all
test-all: build
	CGO_ENABLED=0 $(TEST_ENV) $(GO) test -p 2 $(TEST_FLAGS) $(LONGEST) ./...

.PHONY: test-race
test-race: build
	CGO_ENABLED=1 $(TEST_ENV) $(GO) test -race -p 1 $(TEST_FLAGS) $(RACE)

.PHONY: test-ebpf
test-ebpf: build
	CGO_ENABLED=0 $(TEST_ENV) $(GO) test $(TEST_FLAGS) ./test/differential -engine ebpf

.PHONY: differential
differential: ## FRAMES (100000) IPv4 and as many IPv6 frames through the kernel and through proxyarpd (root)
	@[ "$(ROOT)" = yes ] || { echo "make differential needs root: it makes network namespaces (try: sudo make differential)" >&2; exit 1; }
	@scripts/need ip:iproute2
	@$(MAKE) build
	LAB_REQUIRED=1 PROXYARPD_BIN=$(CURDIR)/$(BIN) $(GO) test ./test/differential -count=1 -v -timeout 60m -run '^TestDifferential$$' -args -total $(FRAMES)

.PHONY: vet
vet:
	CGO_ENABLED=0 $(GO) vet -trimpath ./...

.PHONY: lint
lint: vet ## gofmt, vet, and golangci-lint if it is installed, else staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt -w is due in:"; echo "$$out"; exit 1; }
	@if command -v golangci-lint >/dev/null; then \
		echo golangci-lint run; golangci-lint run; \
	else \
		echo $(GO) run $(STATICCHECK) ./...; $(GO) run $(STATICCHECK) ./...; \
	fi

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (20s)
	@GO=$(GO) scripts/fuzz $(FUZZTIME)

.PHONY: generate
generate: ## compile the eBPF programs and their Go (clang)
	@scripts/need clang:clang llvm-strip:llvm /usr/include/bpf/bpf_helpers.h:libbpf-dev
	$(GO) generate ./forward/claim
	@clang -dumpversion | cut -d. -f1 > $(CLANG_FILE)

# Other versions of clang make other object files, so only the one that made
# the files in the tree can tell whether they are up to date.
.PHONY: check-generate
check-generate: ## are the generated files what `make generate` makes?
	@have=$$(clang -dumpversion 2>/dev/null | cut -d. -f1); \
	if [ -z "$$have" ] && [ "$(ROOT)" = yes ]; then \
		scripts/need clang:clang || true; have=$$(clang -dumpversion 2>/dev/null | cut -d. -f1); \
	fi; \
	if [ "$$have" != "$(CLANG_WANT)" ]; then \
		echo "check-generate: skipped: the generated files are clang $(CLANG_WANT)'s, here is $${have:-none}"; exit 0; \
	fi; \
	$(MAKE) generate; \
	git diff --exit-code --stat -- $(GENERATED) $(CLANG_FILE) || \
		{ echo "check-generate: the files above are not what make generate makes: commit them"; exit 1; }

# go test fails where deploy/man is not what this makes.
.PHONY: generate-man
generate-man: ## make the manual, deploy/man, from the commands
	$(GO) test -count=1 ./cmd/proxyarpd -run '^TestManual$$' -args -update-man

.PHONY: figures
figures: ## measure beside the kernel, in namespaces (root; FIGURES=--quick passes flags)
	@[ "$(ROOT)" = yes ] || { echo "make figures needs root: it makes network namespaces (try: sudo make figures)" >&2; exit 1; }
	@scripts/need ip:iproute2 ping:iputils-ping iperf3:iperf3
	@$(MAKE) build
	$(BIN) bench $(FIGURES)

.PHONY: routes
routes: ## a million routes and a burst of changes to them, beside the kernel (root)
	@[ "$(ROOT)" = yes ] || { echo "make routes needs root: it makes network namespaces (try: sudo make routes)" >&2; exit 1; }
	@scripts/need ip:iproute2
	@$(MAKE) build
	$(GO) test ./forward/route ./internal/netstate -run '^$$' -bench 'Million|LoadRoutes|ChangeRoute' -benchtime 2s
	LAB_REQUIRED=1 PROXYARPD_BIN=$(CURDIR)/$(BIN) $(GO) test ./test/routes -count=1 -v -timeout 15m -routes 1000000 -changes 100000

# Not in CI, where the tests have its short form.
.PHONY: soak
soak: ## traffic for SOAK (20m) while pods, links, neighbours and daemons come and go (root)
	@[ "$(ROOT)" = yes ] || { echo "make soak needs root: it makes network namespaces (try: sudo make soak)" >&2; exit 1; }
	@scripts/need ip:iproute2 ping:iputils-ping
	@$(MAKE) build
	LAB_REQUIRED=1 PROXYARPD_BIN=$(CURDIR)/$(BIN) $(GO) test ./test/soak -run '^TestSoak$$' -count=1 -v -timeout 0 -soak $(SOAK)

# The whole run, for docs/bench and docs/BENCH.md. The machine must be quiet.
.PHONY: bench-report
bench-report: ## measure everything, for docs/bench and docs/BENCH.md: about 20 minutes on 2 CPUs (root)
	@[ "$(ROOT)" = yes ] || { echo "make bench-report needs root: it makes network namespaces (try: sudo make bench-report)" >&2; exit 1; }
	@scripts/need ip:iproute2 ping:iputils-ping iperf3:iperf3
	@$(MAKE) build
	@mkdir -p docs/bench
	$(BIN) bench --trial 1s -o json --html docs/bench/report.html > docs/bench/report.json.new
	mv docs/bench/report.json.new docs/bench/report.json
	@$(MAKE) bench-table

# The README has some rows of the first table: those that it has, anew.
.PHONY: bench-table
bench-table: build ## make the tables of docs/BENCH.md, and the README's excerpt, from docs/bench/report.json
	@$(BIN) bench table docs/bench/report.json > bench.table
	@awk '/^<!-- \/measured -->/ { skip = 0 } !skip { print } \
		/^<!-- measured -->/ { skip = 1; while ((getline line < "bench.table") > 0) print line }' docs/BENCH.md > bench.new
	@mv bench.new docs/BENCH.md
	@awk -F '[|]' 'NR == FNR { if (/^[|]/ && !($$2 in row)) row[$$2] = $$0; next } \
		/^<!-- \/measured excerpt -->/ { inside = 0 } \
		{ print inside && $$2 in row ? row[$$2] : $$0 } \
		/^<!-- measured excerpt -->/ { inside = 1 }' bench.table README.md > bench.new
	@mv bench.new README.md; rm bench.table

# The tools are a module of their own, tools/go.mod: they take a minute to compile, once.
ARCH ?= $(shell $(GO) env GOARCH)

.PHONY: deb
deb: cni ## the Debian package, bin/proxyarpd_VERSION_ARCH.deb
	rm -f bin/*.deb
	@GO=$(GO) scripts/deb $(ARCH) $(VERSION)

.PHONY: image
image: build ## the container image, bin/proxyarpd-image.tar, for docker load and its like
	@GO=$(GO) scripts/licences ./cmd/proxyarpd > bin/third-party-licences
	cd tools && SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 0)} \
		$(GO) run ./image --arch $(ARCH) --tag proxyarpd:latest --entrypoint /proxyarpd --cmd run -o ../bin/proxyarpd-image.tar \
		/proxyarpd=../$(BIN):755 /licenses/LICENSE=../LICENSE /licenses/NOTICE=../NOTICE \
		/licenses/LICENSE.BSD-2-Clause=../forward/claim/bpf/LICENSE.BSD-2-Clause /licenses/LICENSE.GPL-2.0=../forward/claim/bpf/LICENSE.GPL-2.0 \
		/licenses/third-party-licences=../bin/third-party-licences

# What is made is installed, upgraded, removed and run on hosts made of namespaces.
.PHONY: package-test
package-test: deb image ## the package, the image and the Kubernetes manifests, tried (root)
	@[ "$(ROOT)" = yes ] || { echo "make package-test needs root: it makes namespaces (try: sudo make package-test)" >&2; exit 1; }
	@scripts/need /usr/lib/systemd/systemd:systemd ip:iproute2 ping:iputils-ping lintian:lintian
	cd tools && $(GO) vet ./... && $(GO) test ./...
	LAB_REQUIRED=1 PROXYARPD_BIN=$(CURDIR)/$(BIN) PROXYARPD_DEB=$$(echo $(CURDIR)/bin/*.deb) PROXYARPD_IMAGE=$(CURDIR)/bin/proxyarpd-image.tar \
		$(GO) test -count=1 -v -timeout 10m ./test/packaging

.PHONY: tidy-check
tidy-check: ## is go.mod tidy?
	$(GO) mod tidy -diff
	cd tools && $(GO) mod tidy -diff

.PHONY: clean
clean: ## remove bin/ and what fuzzing has cached
	rm -rf bin
	$(GO) clean -fuzzcache
