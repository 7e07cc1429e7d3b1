package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// never is when the broker's own cleaner runs. It has to fit a time.Duration.
const never = 100 * 365 * 24 * time.Hour

// KafkaOptions say where the broker keeps its log and where it listens.
type KafkaOptions struct {
	// Dir holds the log. It is made when missing. Required: in memory a million
	// records would take gigabytes.
	Dir string
	// Addr is the host and port to listen on, "127.0.0.1:0" when empty. Clients are
	// told the same host; a wildcard is told as the loopback address, because no
	// client could dial it.
	Addr string
	// Logger hears of the broker's own troubles. Nil discards them.
	Logger *slog.Logger
	// Network replaces TCP, for tests inside a synctest bubble, whose clock stands
	// still while a goroutine waits for a real socket. Clients dial through it too.
	Network *kfake.VirtualNetwork
}

// Kafka is a single broker inside this process, with its log on disk. It may be
// used from many goroutines.
type Kafka struct {
	cluster *kfake.Cluster
	dir     string
	lock    *folderLock
	network *kfake.VirtualNetwork
	log     *slog.Logger
}

// StartKafka opens the log in o.Dir and listens. It fails when another process
// holds the folder or the address. The caller closes what it gets; ctx bounds
// the start only.
func StartKafka(ctx context.Context, o KafkaOptions) (*Kafka, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("starting kafka: %w", err)
	}
	lock, err := lockFolder(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("starting kafka: %w", err)
	}
	closed, err := wasClosed(o.Dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting kafka: %w", err), lock.release())
	}
	k := &Kafka{dir: o.Dir, lock: lock, network: o.Network, log: cmp.Or(o.Logger, slog.New(slog.DiscardHandler))}
	ln, err := k.listen(ctx, cmp.Or(o.Addr, "127.0.0.1:0"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting kafka: %w", err), lock.release())
	}
	if k.cluster, err = kfake.NewCluster(k.options(o.Dir, ln)...); err != nil {
		_ = ln.Close() // the cluster may have closed it
		return nil, errors.Join(fmt.Errorf("starting kafka on %s: %w", o.Dir, err), lock.release())
	}
	if !closed {
		if err := k.mend(ctx); err != nil {
			k.cluster.Close()
			return nil, errors.Join(fmt.Errorf("starting kafka on %s: %w", o.Dir, err), lock.release())
		}
	}
	return k, nil
}

func (k *Kafka) options(dir string, ln net.Listener) []kfake.Opt {
	return []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.DataDir(dir),
		kfake.WithLogger(brokerLog{k.log}),
		// The first listener is ours, already bound; any other is a node that a test
		// adds, on the port it names.
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			if first := ln; first != nil {
				ln = nil
				return first, nil
			}
			if k.network != nil {
				return k.network.Listen(network, address)
			}
			return net.Listen(network, address)
		}),
		// The broker does not wait for more members before the first rebalance of a
		// group, so there is nothing to set for that. These options win over what an
		// earlier run stored in the folder.
		kfake.BrokerConfigs(map[string]string{
			// The cleaner compacts without regard to min.compaction.lag.ms, which it does
			// not know: an hour after its creation a compacted topic would lose every
			// event but the last of each key. It also applies retention to compacted
			// topics. So it never runs; Trim does what is right of its work.
			"log.cleaner.backoff.ms": millis(never),
			// What Apache Kafka allows at least, said so that a session that works here
			// is not refused there.
			"group.min.session.timeout.ms": millis(6 * time.Second),
			// A member of a group of the new protocol learns of its partitions with the
			// next heartbeat; at the default of 5 s each join would take as long.
			"group.consumer.heartbeat.interval.ms": millis(500 * time.Millisecond),
		}),
	}
}

func (k *Kafka) listen(ctx context.Context, addr string) (net.Listener, error) {
	if k.network != nil {
		return k.network.Listen("tcp", addr)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("reading the address: %w", err)
	}
	var config net.ListenConfig
	ln, err := config.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("address %s is in use by another process: %w", addr, err)
	}
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return advertised{Listener: ln, host: host}, nil
}

// Addrs are what clients dial, with the port that was really bound.
func (k *Kafka) Addrs() []string { return k.cluster.ListenAddrs() }

// Cluster is the broker itself, for tests that inject faults. It stays ours to
// close.
func (k *Kafka) Cluster() *kfake.Cluster { return k.cluster }

// Close writes what is in memory, stops the broker and gives the folder free.
// Clients see their connections end. A second call does nothing.
func (k *Kafka) Close() error {
	k.cluster.Close()
	// Missing, it only costs the next start a mend that was not needed.
	err := os.WriteFile(filepath.Join(k.dir, cleanFile), nil, 0o600)
	if unlock := k.lock.release(); !errors.Is(unlock, os.ErrClosed) {
		err = errors.Join(err, unlock)
	}
	if err != nil {
		return fmt.Errorf("closing kafka: %w", err)
	}
	return nil
}

func (k *Kafka) clientOptions() []kgo.Opt {
	opts := []kgo.Opt{kgo.SeedBrokers(k.Addrs()...)}
	if k.network != nil {
		opts = append(opts, kgo.Dialer(k.network.DialContext))
	}
	return opts
}

// advertised tells the broker another host than the one that the kernel reports,
// since the broker hands its listener's address to clients.
type advertised struct {
	net.Listener
	host string
}

func (a advertised) Addr() net.Addr {
	_, port, _ := net.SplitHostPort(a.Listener.Addr().String())
	return hostPort(net.JoinHostPort(a.host, port))
}

type hostPort string

func (hostPort) Network() string  { return "tcp" }
func (h hostPort) String() string { return string(h) }

// brokerLog lowers what the broker reports by one level: it calls a request
// information, and a client that went away a warning.
type brokerLog struct{ to *slog.Logger }

func (l brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	var to slog.Level
	switch level {
	case kfake.LogLevelError:
		to = slog.LevelError
	case kfake.LogLevelWarn:
		to = slog.LevelInfo
	case kfake.LogLevelInfo:
		to = slog.LevelDebug
	default:
		return
	}
	ctx := context.Background()
	if !l.to.Enabled(ctx, to) {
		return
	}
	l.to.LogAttrs(ctx, to, "embedded broker", slog.String("detail", fmt.Sprintf(format, args...)))
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
