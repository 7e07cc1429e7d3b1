package app

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// deadCommands list and show the deliveries that were given up, and send them on
// their way again, straight from the topic webhook.dead.
func deadCommands() []command {
	part := func(name, does string, do func(context.Context, *deadCommand, []string) error) command {
		return command{name: name, does: does, run: func(ctx context.Context, args []string, env Lookup, out, stderr io.Writer) error {
			return do(ctx, &deadCommand{topicReader: newTopicReader("dead "+name, env, out, stderr)}, args)
		}}
	}
	return []command{
		part("list", "dead letters, without their payloads", listDead), part("show", "the whole of a dead letter", showDead),
		part("requeue", "send dead letters on their way again", requeueDead),
	}
}

// A deadCommand is what the three have in common.
type deadCommand struct {
	*topicReader
	filter deadFilter
}

// A deadFilter narrows the dead letters; zero members do not filter. Its times are
// those of the death.
type deadFilter struct {
	subscription schemas.SubscriptionID
	since, until time.Time
	reason       string
	event        schemas.EventType
	delivery     schemas.DeliveryID
}

func (d *deadCommand) filterFlags() {
	fs := d.s.fs
	fs.StringVar((*string)(&d.filter.subscription), "subscription", "", "only those of this one")
	fs.Func("since", "only those given up since this time, or so long ago", instant(&d.filter.since))
	fs.Func("until", "only those given up before this time, or so long ago", instant(&d.filter.until))
	fs.StringVar(&d.filter.reason, "reason", "", "only those given up for this reason, such as exhausted or gone")
	fs.StringVar((*string)(&d.filter.event), "event-type", "", "only those of this type")
}

func (f *deadFilter) passes(l *deadLetter) bool {
	return (f.subscription == "" || f.subscription == l.SubscriptionID) && (f.reason == "" || f.reason == l.DeadReason) &&
		(f.event == "" || f.event == l.EventType) && (f.delivery == "" || f.delivery == l.ID) && (f.until.IsZero() || l.DeadAt.Before(f.until))
}

// A deadLetter is a delivery that was given up.
type deadLetter struct {
	schemas.Delivery

	DeadAt time.Time `json:"dead_at"`
	trace  string
}

// each hands on the dead letters that pass the filter, once each: a crash may have
// written one twice. What cannot be decoded is counted.
func (d *deadCommand) each(ctx context.Context, do func(*deadLetter)) (spoiled int, err error) {
	c, err := d.kafka(ctx)
	if err != nil {
		return 0, err
	}
	scan, err := kafka.NewScanner(c)
	if err != nil {
		return 0, err
	}
	defer scan.Close()
	ends, err := scan.Ends(ctx, string(schemas.DeadLetters))
	if err != nil {
		return 0, err
	}
	type key struct {
		id  schemas.DeliveryID
		run int64
	}
	seen := map[key]bool{}
	err = scan.Read(ctx, d.filter.since, ends, func(r *kgo.Record) {
		v, err := schemas.Decode[schemas.Delivery](r.Value)
		if err != nil || v.ID == "" || v.SubscriptionID == "" {
			spoiled++
			return
		}
		l := &deadLetter{v, r.Timestamp.UTC(), kafka.HeaderOf(r, "traceparent")}
		if k := (key{v.ID, v.Run}); d.filter.passes(l) && !seen[k] {
			seen[k] = true
			do(l)
		}
	})
	return spoiled, err
}

// A listedLetter is a dead letter without its payload, which is a guest's data.
type listedLetter struct {
	DeadAt         time.Time              `json:"dead_at"`
	ID             schemas.DeliveryID     `json:"id"`
	Run            int64                  `json:"run"`
	EventID        schemas.EventID        `json:"event_id"`
	EventType      schemas.EventType      `json:"event_type"`
	SubscriptionID schemas.SubscriptionID `json:"subscription_id"`
	AgentID        schemas.AgentID        `json:"agent_id"`
	BookingID      schemas.BookingID      `json:"booking_id"`
	Attempts       int                    `json:"attempts"`
	Reason         string                 `json:"reason"`
	LastStatus     int                    `json:"last_status"`
	LastError      string                 `json:"last_error"`
	CreatedAt      time.Time              `json:"created_at"`
}

func (l *deadLetter) listed() listedLetter {
	return listedLetter{
		l.DeadAt, l.ID, l.Run, l.EventID, l.EventType, l.SubscriptionID, l.AgentID, l.BookingID, l.Attempt, l.DeadReason, l.LastStatus, l.LastError, l.CreatedAt,
	}
}

func listDead(ctx context.Context, d *deadCommand, args []string) error {
	d.filterFlags()
	if _, err := d.parse(args, ""); err != nil {
		return err
	}
	w := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	if !d.asJSON {
		fmt.Fprintln(w, "GIVEN UP\tDELIVERY\tRUN\tEVENT\tSUBSCRIPTION\tBOOKING\tATTEMPTS\tREASON\tLAST ANSWER")
	}
	spoiled, err := d.each(ctx, func(l *deadLetter) {
		if d.asJSON {
			_ = printJSON(d.out, l.listed()) // a pipe that was closed
			return
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\t%s\n", l.DeadAt.Format(time.RFC3339), l.ID, l.Run, l.EventType, l.SubscriptionID, l.BookingID, l.Attempt,
			l.DeadReason, lastAnswer(&l.Delivery))
	})
	if err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return d.confess(spoiled)
}

func lastAnswer(d *schemas.Delivery) string {
	if d.LastStatus != 0 {
		return fmt.Sprint(d.LastStatus)
	}
	return d.LastError
}

// confess says on the side what the answer leaves out.
func (d *deadCommand) confess(spoiled int) (err error) {
	if spoiled > 0 {
		_, err = fmt.Fprintf(d.stderr, "krib dead: %d records of webhook.dead could not be decoded\n", spoiled)
	}
	return err
}

// showDead prints the whole of a dead letter, one line of JSON for each of its runs.
func showDead(ctx context.Context, d *deadCommand, args []string) error {
	id, err := d.parse(args, "the id of a delivery, which krib dead list shows,")
	if err != nil {
		return err
	}
	d.filter.delivery = schemas.DeliveryID(id)
	found := 0
	spoiled, err := d.each(ctx, func(l *deadLetter) {
		found++
		if d.asJSON {
			_ = printJSON(d.out, l) // a pipe that was closed
			return
		}
		_ = printIndented(d.out, l)
	})
	if err != nil {
		return err
	}
	if found == 0 {
		return fmt.Errorf("there is no dead letter of the delivery %q", id)
	}
	return d.confess(spoiled)
}
