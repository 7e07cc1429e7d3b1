package testenv

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"testing"
)

// ClusterID is any UUID in base64, of the clusters that the command in
// internal/testenv/apache starts.
const ClusterID = "4L6g3nShT-eMCtK--X86sw"

// kafkaControl is the URL by which that command kills and starts nodes.
const kafkaControl = "KRIB_TEST_KAFKA_CONTROL"

// An ApacheKafka is the cluster that a test has to itself, with the means to kill its
// nodes.
type ApacheKafka struct {
	addrs   []string
	control string
}

// Apache is the Apache Kafka that this test runs on, with Brokers its addresses. All
// its nodes run again after the test.
func Apache(tb testing.TB) *ApacheKafka {
	tb.Helper()
	a := &ApacheKafka{control: os.Getenv(kafkaControl)}
	if a.control == "" {
		tb.Fatalf("this test needs an Apache Kafka whose nodes it can kill: %s is not set; run it by `make test-kafka`", kafkaControl)
	}
	a.addrs = Brokers(tb)
	tb.Cleanup(func() {
		for _, addr := range a.addrs {
			a.Start(tb, addr)
		}
	})
	return a
}

// Addrs are the nodes' addresses. They stay the same over Kill and Start.
func (a *ApacheKafka) Addrs() []string { return a.addrs }

// Kill ends the node at addr as kill -9 does, and returns when it is gone.
func (a *ApacheKafka) Kill(tb testing.TB, addr string) {
	tb.Helper()
	a.order(tb, "/kill", addr)
}

// Start starts the node at addr again, on what it had written, and returns when it is
// part of the cluster.
func (a *ApacheKafka) Start(tb testing.TB, addr string) {
	tb.Helper()
	a.order(tb, "/start", addr)
}

func (a *ApacheKafka) order(tb testing.TB, path, addr string) {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context()) // the nodes are started again after the test
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.control+path+"?addr="+url.QueryEscape(addr), nil)
	if err != nil {
		tb.Fatal(err)
	}
	res, err := new(http.Client).Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
		tb.Fatalf("%s of the node at %s: %s", path, addr, body)
	}
}
