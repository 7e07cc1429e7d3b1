package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// cleanFile stands in the folder from a Close to the next start.
const cleanFile = "closed-cleanly"

// wasClosed says whether the folder's last user closed it, or nobody has used it
// yet, and forgets the answer.
func wasClosed(dir string) (bool, error) {
	err := os.Remove(filepath.Join(dir, cleanFile))
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(dir)
		return err == nil && len(entries) <= 1, err // the lock alone: a new folder
	}
	return err == nil, err
}

// mend writes, after a kill, the abort markers that kfake leaves out.
//
// A transaction that was open then is aborted when kfake loads the log, but
// without the marker that Apache Kafka would write behind it. Two things follow. A
// read_committed reader never gets past those records: whoever reads up to the end
// that the broker tells waits for ever. And worse, a client drops what a producer
// wrote from the aborted record on until it sees that producer's marker; the
// producer of the same transactional id goes on after the restart, and what it
// commits is dropped with it. So each transactional id that the broker knows
// aborts an empty transaction on every partition, before anybody connects.
func (k *Kafka) mend(ctx context.Context) error {
	// The last versions in which a client may add partitions by itself.
	cl, err := kgo.NewClient(append(k.clientOptions(), kgo.MaxVersions(kversion.V3_0_0()))...)
	if err != nil {
		return fmt.Errorf("mending the log: %w", err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("mending the log: %w", err)
	}
	ids, err := adm.ListTransactions(ctx, nil, nil)
	if err != nil {
		return fmt.Errorf("mending the log: %w", err)
	}
	for _, id := range ids.TransactionalIDs() {
		if err := abortEverywhere(ctx, cl, id, topics); err != nil {
			return fmt.Errorf("mending the log for %s: %w", id, err)
		}
	}
	return nil
}

func abortEverywhere(ctx context.Context, cl *kgo.Client, id string, topics kadm.TopicDetails) error {
	begin := kmsg.NewPtrInitProducerIDRequest()
	begin.TransactionalID, begin.TransactionTimeoutMillis = new(id), 10_000
	pid, err := begin.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(pid.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("beginning: %w", err)
	}
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = id, pid.ProducerID, pid.ProducerEpoch
	for _, t := range topics.Sorted() {
		rt := kmsg.NewAddPartitionsToTxnRequestTopic()
		rt.Topic, rt.Partitions = t.Topic, t.Partitions.Numbers()
		add.Topics = append(add.Topics, rt)
	}
	added, err := add.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("adding the partitions: %w", err)
	}
	for _, t := range added.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("adding %s/%d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch = id, pid.ProducerID, pid.ProducerEpoch // to abort
	ended, err := end.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(ended.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("ending: %w", err)
	}
	return nil
}
