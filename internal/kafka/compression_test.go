package kafka_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
)

// codecsOf are the codecs of the batches of a topic's only partition, as they lie on
// the broker; control batches are left out.
func codecsOf(t *testing.T, brokers []string, topic string) (codecs []int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MaxVersions(kversion.V2_8_0())) // topics by name
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxBytes, req.MinBytes = -1, 1<<24, 1
	part := kmsg.NewFetchRequestTopicPartition()
	part.PartitionMaxBytes, part.CurrentLeaderEpoch = 1<<24, -1
	of := kmsg.NewFetchRequestTopic()
	of.Topic, of.Partitions = topic, []kmsg.FetchRequestTopicPartition{part}
	req.Topics = []kmsg.FetchRequestTopic{of}
	resp, err := req.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	b := resp.Topics[0].Partitions[0].RecordBatches
	for len(b) > 23 {
		attributes := binary.BigEndian.Uint16(b[21:])
		if attributes&(1<<5) == 0 {
			codecs = append(codecs, int(attributes&7))
		}
		b = b[12+binary.BigEndian.Uint32(b[8:]):]
	}
	return codecs
}

// The codecs' numbers are the protocol's.
func TestEveryProducerCompressesAsConfigured(t *testing.T) {
	t.Parallel()
	numbers := map[kafka.Compression]int{"": 2, kafka.NoCompression: 0, kafka.Gzip: 1, kafka.Snappy: 2, kafka.LZ4: 3, kafka.Zstd: 4}
	for _, c := range append(kafka.Compressions(), "") {
		t.Run("as "+string(c), func(t *testing.T) {
			t.Parallel()
			conf := kafka.Config{Brokers: testenv.Brokers(t), Logger: testenv.Logger(t), Compression: c}
			for name, opts := range map[string][]kgo.Opt{
				"plain":         conf.Options("plain"),
				"transactional": append(conf.Options("relay"), kafka.TransactionalOptions("codec")...),
				"member":        append(conf.GroupOptions("codec"), conf.Options("deliver")...),
			} {
				topic := "codec." + name
				cl, err := kgo.NewClient(append(opts, kgo.DefaultProduceTopic(topic))...)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
					t.Fatal(err)
				}
				if name == "transactional" {
					if err := cl.BeginTransaction(); err != nil {
						t.Fatal(err)
					}
				}
				value := []byte(strings.Repeat("a booking, ", 1000)) // what does not shrink is sent as it is
				if err := cl.ProduceSync(t.Context(), &kgo.Record{Value: value, Key: []byte("k")}).FirstErr(); err != nil {
					t.Fatal(err)
				}
				if name == "transactional" {
					if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
						t.Fatal(err)
					}
				}
				all := 0
				for _, codec := range codecsOf(t, conf.Brokers, topic) {
					if all++; codec != numbers[c] {
						t.Errorf("%s writes with codec %d, want %d", name, codec, numbers[c])
					}
				}
				if all != 1 {
					t.Errorf("%s: %d batches, want 1", name, all)
				}
				cl.Close()
			}
		})
	}
}

// A client that is not made of these options would have a codec of its own.
func TestEveryClientOfTheProgramIsMadeOfTheseOptions(t *testing.T) {
	t.Parallel()
	made, n := regexp.MustCompile(`kgo\.NewClient\(([^\n]*)\)`), 0
	for _, folder := range []string{"app", "api", "producers", "processors", "sinks", "internal"} {
		err := filepath.WalkDir(filepath.Join("..", "..", folder), func(path string, d os.DirEntry, err error) error {
			own := []string{"embedded", "testenv", "bench", "e2e", "sse"} // the broker's own, and what is no part of the program
			if err != nil || d.IsDir() && slices.Contains(own, d.Name()) {
				if err == nil {
					err = filepath.SkipDir
				}
				return err
			}
			if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range made.FindAllStringSubmatch(string(b), -1) {
				n++
				from := regexp.MustCompile(`opts\b.*(:=|=).*\.(Options|MemberOptions|GroupOptions)\(`)
				if !regexp.MustCompile(`\.(Options|MemberOptions|GroupOptions)\(`).MatchString(m[1]) && !from.Match(b) {
					t.Errorf("%s: %s is not made of kafka.Config's options", path, m[0])
				}
			}
			if strings.Contains(string(b), "ProducerBatchCompression") && filepath.Base(path) != "kafka.go" {
				t.Errorf("%s chooses a codec of its own", path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n < 10 {
		t.Errorf("found only %d clients", n)
	}
}
