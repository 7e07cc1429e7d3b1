package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// kafkaNodes asks for an Apache Kafka of so many nodes, instead of the embedded
	// broker. They run on the jars of kafkaLib.
	kafkaNodes = "KRIB_TEST_KAFKA_NODES"
	kafkaLib   = "KRIB_TEST_KAFKA_LIB"
)

// An ApacheKafka is a cluster of the real thing in KRaft mode, each node a JVM of
// its own that is broker and controller. It is empty at first, and its logs are in
// a temporary folder.
type ApacheKafka struct {
	dir   string
	lib   string
	nodes []*apacheNode
}

// sharedApache is the cluster of this test process, started by the first test that
// asks. Whoever holds turn has it alone.
var sharedApache apacheShare

type apacheShare struct {
	turn sync.Mutex

	mu    sync.Mutex
	kafka *ApacheKafka
	err   error // of the first start; it would not go better a second time
}

// get starts it with so many nodes, unless it runs.
func (s *apacheShare) get(ctx context.Context, nodes string) (*ApacheKafka, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kafka != nil || s.err != nil {
		return s.kafka, s.err
	}
	n, err := strconv.Atoi(nodes)
	if err != nil || n < 1 {
		s.err = fmt.Errorf("%s is %q; it is a number of nodes", kafkaNodes, nodes)
		return nil, s.err
	}
	// The cluster outlives the test that starts it.
	s.kafka, s.err = startApache(context.WithoutCancel(ctx), n)
	return s.kafka, s.err
}

func (s *apacheShare) started() *ApacheKafka {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kafka
}

func (s *apacheShare) stop() error {
	if a := s.started(); a != nil {
		return a.stop()
	}
	return nil
}

// startWithinApache is for all nodes together: a JVM needs seconds, and they share
// the machine with the tests of other packages.
const startWithinApache = 90 * time.Second

// startApache starts n nodes and waits until each has joined.
func startApache(ctx context.Context, n int) (_ *ApacheKafka, err error) {
	lib := os.Getenv(kafkaLib)
	if jars, err := filepath.Glob(filepath.Join(lib, "kafka_2.13-*.jar")); lib == "" || err != nil || len(jars) == 0 {
		return nil, fmt.Errorf("%s is %q, a folder without Kafka's jars: `make test-kafka` fetches them", kafkaLib, lib)
	}
	dir, err := os.MkdirTemp("", "krib-test-kafka-")
	if err != nil {
		return nil, err
	}
	a := &ApacheKafka{dir: dir, lib: lib}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.stop())
		}
	}()
	if err := a.layOut(n); err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	formatted := make([]error, n)
	for i, node := range a.nodes {
		wg.Go(func() { formatted[i] = node.format(ctx) })
	}
	wg.Wait()
	if err := errors.Join(formatted...); err != nil {
		return nil, err
	}
	for _, node := range a.nodes {
		if err := node.start(); err != nil {
			return nil, err
		}
	}
	return a, a.await(ctx)
}

// layOut chooses ports and writes each node's configuration. Another process may
// take a port between here and the node's start; then the start fails and says so.
func (a *ApacheKafka) layOut(n int) error {
	ports, err := freePorts(2 * n)
	if err != nil {
		return err
	}
	var voters []string
	for i := range n {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[2*i+1]))
	}
	for i := range n {
		node := &apacheNode{
			lib: a.lib, addr: fmt.Sprintf("127.0.0.1:%d", ports[2*i]),
			config: filepath.Join(a.dir, fmt.Sprintf("server-%d.properties", i+1)), log: filepath.Join(a.dir, fmt.Sprintf("server-%d.log", i+1)),
		}
		text := fmt.Sprintf(properties, i+1, strings.Join(voters, ","), ports[2*i], ports[2*i+1], filepath.Join(a.dir, fmt.Sprint(i+1)), n, min(n, 2))
		if err := os.WriteFile(node.config, []byte(text), 0o600); err != nil {
			return err
		}
		a.nodes = append(a.nodes, node)
	}
	return nil
}

// properties are small: few threads, few partitions of internal topics, buffers
// for a small heap. Topics are made by Krib, never by a request for their name.
const properties = `process.roles=broker,controller
node.id=%[1]d
controller.quorum.voters=%[2]s
listeners=PLAINTEXT://127.0.0.1:%[3]d,CONTROLLER://127.0.0.1:%[4]d
advertised.listeners=PLAINTEXT://127.0.0.1:%[3]d
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=%[5]s
auto.create.topics.enable=false
default.replication.factor=%[6]d
offsets.topic.num.partitions=4
offsets.topic.replication.factor=%[6]d
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=%[6]d
transaction.state.log.min.isr=%[7]d
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=%[6]d
share.coordinator.state.topic.min.isr=%[7]d
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=4
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
broker.session.timeout.ms=6000
`

func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		// Closed together at the end, or the kernel might give one port twice.
		defer func() { _ = ln.Close() }()
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// Addrs are the nodes' addresses. They stay the same over Kill and Start.
func (a *ApacheKafka) Addrs() []string {
	out := make([]string, len(a.nodes))
	for i, n := range a.nodes {
		out[i] = n.addr
	}
	return out
}

// Kill ends the node at addr as kill -9 does, and waits until it is gone.
func (a *ApacheKafka) Kill(tb testing.TB, addr string) {
	tb.Helper()
	a.node(tb, addr).kill()
}

// Start starts the node at addr again, on what it had written, and waits until it
// is part of the cluster.
func (a *ApacheKafka) Start(tb testing.TB, addr string) {
	tb.Helper()
	if err := a.node(tb, addr).start(); err != nil {
		tb.Fatal(err)
	}
	if err := a.await(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

func (a *ApacheKafka) node(tb testing.TB, addr string) *apacheNode {
	tb.Helper()
	for _, n := range a.nodes {
		if n.addr == addr {
			return n
		}
	}
	tb.Fatalf("no node at %s; they are at %v", addr, a.Addrs())
	return nil
}

// await waits until every node knows all of them, and says what the logs say when
// one does not.
func (a *ApacheKafka) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithinApache)
	defer cancel()
	for _, n := range a.nodes {
		if err := n.await(ctx, len(a.nodes)); err != nil {
			return err
		}
	}
	return nil
}

// stop kills the nodes and removes their folder: nobody reads it again.
func (a *ApacheKafka) stop() error {
	for _, n := range a.nodes {
		n.kill()
	}
	return os.RemoveAll(a.dir)
}

// newAdmin makes a client that forgets a deleted topic at once; the default is to
// believe in it for 5 s.
func newAdmin(brokers []string) (*kadm.Client, error) {
	return kadm.NewOptClient(kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(10*time.Millisecond))
}

// An apacheNode is one JVM.
type apacheNode struct {
	lib, config, log, addr string

	line io.WriteCloser // its end is the node's
	gone chan struct{}  // closed when the node has ended; nil before the first start
}

// ClusterID is any UUID in base64; every cluster is alone in its world.
const ClusterID = "4L6g3nShT-eMCtK--X86sw"

// java is short-lived: the second compiler and a parallel collector would cost
// more than they give.
func (n *apacheNode) java(heap string, args ...string) []string {
	return append([]string{
		"java", "-Xms" + heap, "-Xmx" + heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true", "-cp", filepath.Join(n.lib, "*"),
	}, args...)
}

func (n *apacheNode) format(ctx context.Context) error {
	args := n.java("128m", "kafka.tools.StorageTool", "format", "-t", ClusterID, "-c", n.config)
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("formatting Kafka's storage: %w\n%s", err, out)
	}
	return nil
}

// leash runs its arguments and kills them when its input ends, which it does when
// this process dies, whatever kills it.
const leash = `exec 3<&0; "$@" </dev/null & pid=$!; { read -r _ <&3; kill -KILL $pid; } 2>/dev/null & wait $pid`

func (n *apacheNode) start() error {
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command("/bin/sh", append([]string{"-c", leash, "sh"}, n.java("512m", "kafka.Kafka", n.config)...)...) //nolint:noctx // it ends by a kill
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for the tests
	if n.line, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting Kafka: %w", err)
	}
	gone := make(chan struct{})
	n.gone = gone
	go func() {
		defer close(gone)
		_ = cmd.Wait() // it is killed in the end
	}()
	return nil
}

func (n *apacheNode) kill() {
	if n.gone == nil {
		return
	}
	_ = n.line.Close()
	<-n.gone
}

func (n *apacheNode) ended() bool {
	select {
	case <-n.gone:
		return true
	default:
		return false
	}
}

// await waits until the node answers that it is one of so many.
func (n *apacheNode) await(ctx context.Context, nodes int) error {
	admin, err := newAdmin([]string{n.addr})
	if err != nil {
		return err
	}
	defer admin.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		brokers, err := admin.ListBrokers(ctx)
		if err == nil && len(brokers) == nodes {
			return nil
		}
		if n.ended() {
			return fmt.Errorf("an Apache Kafka ended at its start:\n%s", n.tail())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the Apache Kafka at %s did not come up in %v: %w\n%s", n.addr, startWithinApache, err, n.tail())
		}
	}
}

// tail is the end of the node's log.
func (n *apacheNode) tail() string {
	b, _ := os.ReadFile(n.log)
	return string(b[max(0, len(b)-4000):])
}
