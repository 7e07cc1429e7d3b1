package bench

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/krib-ai/krib/internal/kafka"
)

// A Machine is what the figures were measured on.
type Machine struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	Memory   int64  `json:"memory_bytes"`
	Kernel   string `json:"kernel"`
	Go       string `json:"go"`
	Postgres string `json:"postgres"`
	Kafka    string `json:"kafka"`
	// Load is the load average of the last minute before anything was started: what
	// others did with the same processors.
	Load string `json:"load"`
}

func (b *bench) machine(ctx context.Context, load string) (Machine, error) {
	m := Machine{
		CPU: cpuModel(readText("/proc/cpuinfo")), Cores: runtime.NumCPU(), Kernel: strings.TrimSpace(readText("/proc/sys/kernel/osrelease")), Go: runtime.Version(), Load: load,
	}
	m.Memory, _ = kilobytes(readText("/proc/meminfo"), "MemTotal:") // zero is shown as what it is
	var err error
	if m.Postgres, err = b.postgresVersion(ctx); err != nil {
		return m, err
	}
	m.Kafka, err = b.kafkaKind(ctx)
	return m, err
}

// readText is empty for what this machine does not have.
func readText(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// loadAverage is the first number of /proc/loadavg.
func loadAverage() string {
	one, _, _ := strings.Cut(readText("/proc/loadavg"), " ")
	return one
}

// cpuModel reads /proc/cpuinfo; some processors say no name there.
func cpuModel(info string) string {
	for line := range strings.Lines(info) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return "unknown, " + runtime.GOARCH
}

func (b *bench) kafkaKind(ctx context.Context) (string, error) {
	if !b.o.GivenKafka {
		return "kfake, inside Krib's process, one replica", nil
	}
	cl, err := kafka.NewProducer(b.kafka, "bench-describe")
	if err != nil {
		return "", err
	}
	defer cl.Close()
	vs, err := kadm.NewClient(cl).ApiVersions(ctx)
	if err != nil {
		return "", fmt.Errorf("asking the brokers for their version: %w", err)
	}
	guess := "of an unknown version"
	for _, v := range vs.Sorted() {
		guess = v.VersionGuess()
	}
	return fmt.Sprintf("%d brokers, %s, given by KRIB_KAFKA_BROKERS: not counted as Krib's", len(vs), guess), nil
}

func (m *Machine) write(b *strings.Builder, command string) {
	b.WriteString("| | |\n|---|---|\n")
	for _, row := range [][2]string{
		{"command", "`" + command + "`"},
		{"processor", fmt.Sprintf("%s, %d cores", m.CPU, m.Cores)},
		{"memory", fmt.Sprintf("%.1f GiB", float64(m.Memory)/(1<<30))},
		{"kernel", m.Kernel},
		{"Go", m.Go},
		{"Postgres", m.Postgres},
		{"Kafka", m.Kafka},
		{"load before", m.Load},
	} {
		fmt.Fprintf(b, "| %s | %s |\n", row[0], row[1])
	}
}
