package kafka

import (
	"cmp"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A Compression is the codec of record batches. Consumers must have it: Java's
// clients, librdkafka and franz-go have all of them, kafka-python and KafkaJS gzip
// alone without further packages.
type Compression string

// The values are those of compression.type of Java's producer.
const (
	NoCompression Compression = "none"
	Gzip          Compression = "gzip"
	Snappy        Compression = "snappy"
	LZ4           Compression = "lz4"
	Zstd          Compression = "zstd"

	DefaultCompression = Snappy
)

// Compressions are all that there are.
func Compressions() []Compression { return []Compression{NoCompression, Gzip, Snappy, LZ4, Zstd} }

// codecs are in the order of preference. Without any the client stops where a
// broker is too old for the first.
func (c Compression) codecs() []kgo.CompressionCodec {
	codec := map[Compression]kgo.CompressionCodec{
		Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(), LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression(),
	}
	none := kgo.NoCompression()
	if first, ok := codec[cmp.Or(c, DefaultCompression)]; ok {
		return []kgo.CompressionCodec{first, none}
	}
	return []kgo.CompressionCodec{none}
}
