package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/testenv"
)

// A cluster is an Apache Kafka in KRaft mode, each node a JVM of its own that is
// broker and controller. It is empty at first, and its logs are in a temporary folder.
type cluster struct {
	dir   string
	lib   string
	nodes []*node
}

// startWithin bounds the start of all nodes together: a JVM needs seconds, and the
// nodes share the machine with the compiler.
const startWithin = 90 * time.Second

// startCluster starts n nodes on the jars in lib and waits until each has joined.
func startCluster(ctx context.Context, lib string, n int) (_ *cluster, err error) {
	if jars, err := filepath.Glob(filepath.Join(lib, "kafka_2.13-*.jar")); lib == "" || err != nil || len(jars) == 0 {
		return nil, fmt.Errorf("-lib is %q, a folder without Kafka's jars: `make test-kafka` fetches them", lib)
	}
	dir, err := os.MkdirTemp("", "krib-test-kafka-")
	if err != nil {
		return nil, err
	}
	a := &cluster{dir: dir, lib: lib}
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
func (a *cluster) layOut(n int) error {
	ports, err := freePorts(2 * n)
	if err != nil {
		return err
	}
	var voters []string
	for i := range n {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[2*i+1]))
	}
	for i := range n {
		one := &node{
			lib: a.lib, addr: fmt.Sprintf("127.0.0.1:%d", ports[2*i]),
			config: filepath.Join(a.dir, fmt.Sprintf("server-%d.properties", i+1)), log: filepath.Join(a.dir, fmt.Sprintf("server-%d.log", i+1)),
		}
		text := fmt.Sprintf(properties, i+1, strings.Join(voters, ","), ports[2*i], ports[2*i+1], filepath.Join(a.dir, fmt.Sprint(i+1)), n, min(n, 2))
		if err := os.WriteFile(one.config, []byte(text), 0o600); err != nil {
			return err
		}
		a.nodes = append(a.nodes, one)
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

// addrs are the nodes' addresses. They stay the same over a kill and a start.
func (a *cluster) addrs() []string {
	out := make([]string, len(a.nodes))
	for i, n := range a.nodes {
		out[i] = n.addr
	}
	return out
}

// at returns the node of an address, or nil.
func (a *cluster) at(addr string) *node {
	for _, n := range a.nodes {
		if n.addr == addr {
			return n
		}
	}
	return nil
}

// await waits until every node knows all of them, and says what the logs say when
// one does not.
func (a *cluster) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for _, n := range a.nodes {
		if err := n.await(ctx, len(a.nodes)); err != nil {
			return err
		}
	}
	return nil
}

// stop kills the nodes and removes their folder: nobody reads it again.
func (a *cluster) stop() error {
	for _, n := range a.nodes {
		n.kill()
	}
	return os.RemoveAll(a.dir)
}

// A node is one JVM.
type node struct {
	lib, config, log, addr string

	line io.WriteCloser // its end is the node's
	gone chan struct{}  // closed when the node has ended; nil before the first start
}

// java is short-lived: the second compiler and a parallel collector would cost
// more than they give.
func (n *node) java(heap string, args ...string) []string {
	return append([]string{
		"java", "-Xms" + heap, "-Xmx" + heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true", "-cp", filepath.Join(n.lib, "*"),
	}, args...)
}

func (n *node) format(ctx context.Context) error {
	args := n.java("128m", "kafka.tools.StorageTool", "format", "-t", testenv.ClusterID, "-c", n.config)
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("formatting Kafka's storage: %w\n%s", err, out)
	}
	return nil
}

// leash runs its arguments and kills them when its input ends, which it does when
// this process dies, whatever kills it.
const leash = `exec 3<&0; "$@" </dev/null & pid=$!; { read -r _ <&3; kill -KILL $pid; } 2>/dev/null & wait $pid`

func (n *node) start() error {
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

func (n *node) kill() {
	if n.gone == nil {
		return
	}
	_ = n.line.Close()
	<-n.gone
}

func (n *node) ended() bool {
	select {
	case <-n.gone:
		return true
	default:
		return false
	}
}

// await waits until the node answers that it is one of so many.
func (n *node) await(ctx context.Context, nodes int) error {
	admin, err := kadm.NewOptClient(kgo.SeedBrokers(n.addr))
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
			return fmt.Errorf("the Apache Kafka at %s did not come up in %v: %w\n%s", n.addr, startWithin, err, n.tail())
		}
	}
}

// tail is the end of the node's log.
func (n *node) tail() string {
	b, _ := os.ReadFile(n.log)
	return string(b[max(0, len(b)-4000):])
}
