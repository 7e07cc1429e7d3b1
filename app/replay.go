package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/krib-ai/krib/schemas"
)

// replayCommands start, list, show and end replays, over the API: they are for agents
// as much as for operators.
func replayCommands() []command {
	part := func(name, does string, do func(context.Context, *replayCommand, []string) error) command {
		return command{name: name, does: does, run: func(ctx context.Context, args []string, env Lookup, out, stderr io.Writer) error {
			c := &replayCommand{s: newSettings("replay " + name), env: env, out: out, stderr: stderr}
			c.s.add("KRIB_API_URL", "http://127.0.0.1:8080", "where the API is", text(&c.apiURL))
			c.s.addSecret("KRIB_API_KEY", "a key with the scope webhooks:manage", secret(&c.key))
			c.s.fs.StringVar(&c.subscription, "subscription", "", "the id of the webhook subscription")
			c.s.fs.BoolVar(&c.asJSON, "json", false, "answer as JSON")
			return do(ctx, c, args)
		}}
	}
	return []command{
		part("start", "send events of the log once more, or count them", startReplay), part("list", "the replays of a subscription", listReplays),
		part("show", "how far a replay is", showReplay), part("cancel", "end a replay", cancelReplay),
	}
}

// A replayCommand is what the four have in common.
type replayCommand struct {
	s            *settings
	env          Lookup
	out, stderr  io.Writer
	apiURL       string
	key          schemas.Secret
	subscription string
	asJSON       bool
}

// parse reads the flags, and the id of a replay where one is needed.
func (c *replayCommand) parse(args []string, needsID bool) (id string, err error) {
	if needsID {
		c.s.takes = " ID"
		id, err = c.s.parseID(args, c.env, "the id of a replay, which krib replay list shows,")
	} else {
		err = c.s.parse(args, c.env)
	}
	switch {
	case err != nil:
		return "", err
	case c.subscription == "":
		return "", fmt.Errorf("--subscription must be given (%w)", errUsage)
	case c.key == "":
		return "", fmt.Errorf("KRIB_API_KEY must be set (%w)", errUsage)
	case isWebURL(c.apiURL) != nil:
		return "", fmt.Errorf("--api-url must be a URL such as https://api.example.com, without credentials (%w)", errUsage)
	}
	return id, nil
}

// replayPatience is above what the API takes for its slowest answer, a count.
const replayPatience = 30 * time.Second

// A shownReplay is what the API tells of a replay, as far as people read it.
type shownReplay struct {
	ID            string     `json:"id"`
	Kind          string     `json:"kind"`
	State         string     `json:"state"`
	Reason        *string    `json:"reason"`
	DryRun        bool       `json:"dry_run"`
	Since         *time.Time `json:"since"`
	BookingID     *string    `json:"booking_id"`
	DeliveryID    *string    `json:"delivery_id"`
	CompleteSince *time.Time `json:"complete_since"`
	CreatedAt     time.Time  `json:"created_at"`
	Progress      struct {
		ReadPercent float64 `json:"read_percent"`
		Matched     int64   `json:"matched"`
		Produced    int64   `json:"produced"`
		Waiting     int64   `json:"waiting"`
		Delivered   int64   `json:"delivered"`
		Failed      int64   `json:"failed"`
		Withheld    int64   `json:"withheld"`
		Superseded  int64   `json:"superseded"`
	} `json:"progress"`

	raw json.RawMessage // as the API wrote it
}

func (r *shownReplay) ended() bool { return schemas.ReplayState(r.State).Ended() }

// ask calls a path below the subscription and returns the answer's data.
func (c *replayCommand) ask(ctx context.Context, method, path string, body any) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, replayPatience)
	defer cancel()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(b)
	}
	at := strings.TrimSuffix(c.apiURL, "/") + "/api/v1/external/webhook-subscriptions/" + url.PathEscape(c.subscription) + path
	req, err := http.NewRequestWithContext(ctx, method, at, in)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.key.Reveal())
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }} // the key is for this address
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("calling the API: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	var a struct {
		Data   json.RawMessage `json:"data"`
		Detail string          `json:"detail"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 4<<20)).Decode(&a); err != nil || res.StatusCode != http.StatusOK && a.Detail == "" {
		return nil, fmt.Errorf("%s answers %s, and not as Krib's API does", c.apiURL, res.Status)
	}
	if res.StatusCode != http.StatusOK {
		return nil, errors.New(a.Detail)
	}
	return a.Data, nil
}

func (c *replayCommand) one(ctx context.Context, method, path string, body any) (*shownReplay, error) {
	raw, err := c.ask(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	r := &shownReplay{raw: raw}
	if err := json.Unmarshal(raw, r); err != nil || r.ID == "" {
		return nil, fmt.Errorf("%s answers with something that is no replay", c.apiURL)
	}
	return r, nil
}

// A replayRequest is the API's own body.
type replayRequest struct {
	Since      *time.Time `json:"since,omitempty"`
	Until      *time.Time `json:"until,omitempty"`
	BookingID  string     `json:"booking_id,omitempty"`
	EventTypes []string   `json:"event_types,omitempty"`
	OnlyFailed bool       `json:"only_failed"`
	DryRun     bool       `json:"dry_run"`
}

func startReplay(ctx context.Context, c *replayCommand, args []string) error {
	var (
		in       replayRequest
		delivery string
		wait     bool
	)
	fs := c.s.fs
	fs.Func("since", "the events from then on: a time such as 2026-05-01T12:00:00Z, or how long ago, such as 6h or 7d", func(v string) error { return ago(&in.Since, v) })
	fs.Func("until", "the events before then, in the same forms", func(v string) error { return ago(&in.Until, v) })
	fs.StringVar(&in.BookingID, "booking", "", "the events of this booking only")
	fs.Func("types", "the events of these types only, separated by commas", list(&in.EventTypes))
	fs.BoolVar(&in.OnlyFailed, "only-failed", false, "only what has ended without being delivered")
	fs.StringVar(&delivery, "delivery", "", "nothing but this one delivery, whatever has become of it")
	fs.BoolVar(&in.DryRun, "dry-run", false, "count, and send nothing")
	fs.BoolVar(&wait, "wait", false, "wait for the end, and tell how far it is")
	if _, err := c.parse(args, false); err != nil {
		return err
	}
	var (
		r   *shownReplay
		err error
	)
	switch ranged := in.Since != nil || in.Until != nil || in.BookingID != "" || in.EventTypes != nil || in.OnlyFailed || in.DryRun; {
	case delivery != "" && ranged:
		return fmt.Errorf("--delivery stands alone: it names all that is sent (%w)", errUsage)
	case delivery != "":
		r, err = c.one(ctx, http.MethodPost, "/deliveries/"+url.PathEscape(delivery)+"/retry", nil)
	case in.Since == nil && in.BookingID == "":
		return fmt.Errorf("--since, --booking or --delivery must be given (%w)", errUsage)
	default:
		r, err = c.one(ctx, http.MethodPost, "/replays", in)
	}
	if err != nil {
		return err
	}
	if wait || in.DryRun {
		return c.follow(ctx, r)
	}
	return c.show(r)
}

// follow waits until a replay has ended and all that it sent has, too. It fails
// where not everything was delivered.
func (c *replayCommand) follow(ctx context.Context, r *shownReplay) error {
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	for last := ""; !r.ended() || r.State != string(schemas.ReplayCancelled) && r.Progress.Waiting > 0; {
		if line := r.line(); line != last && !c.asJSON {
			_, _ = fmt.Fprintln(c.stderr, line)
			last = line
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not waiting any longer; the replay %s goes on without this command", r.ID)
		case <-again.C:
		}
		next, err := c.one(ctx, http.MethodGet, "/replays/"+url.PathEscape(r.ID), nil)
		switch {
		case ctx.Err() != nil:
			continue
		case err != nil:
			return err
		}
		r = next
	}
	if err := c.show(r); err != nil {
		return err
	}
	switch p := &r.Progress; {
	case r.State == string(schemas.ReplayFailed) && r.Reason != nil:
		return fmt.Errorf("the replay failed: %s", *r.Reason)
	case r.State != string(schemas.ReplayDone):
		return fmt.Errorf("the replay is %s", r.State)
	case p.Failed+p.Withheld > 0:
		return fmt.Errorf("%d of %d deliveries failed or were withheld", p.Failed+p.Withheld, p.Produced)
	}
	return nil
}

func (r *shownReplay) line() string {
	p := &r.Progress
	if r.DryRun {
		return fmt.Sprintf("%s: %.0f%% read, %d matched", r.State, p.ReadPercent, p.Matched)
	}
	line := fmt.Sprintf("%s: %.0f%% read, %d sent: %d delivered, %d waiting, %d failed, %d withheld", r.State, p.ReadPercent, p.Produced, p.Delivered,
		p.Waiting, p.Failed, p.Withheld)
	if p.Superseded > 0 {
		line += fmt.Sprintf(", %d superseded", p.Superseded)
	}
	return line
}

func (c *replayCommand) show(r *shownReplay) error {
	if c.asJSON {
		_, err := fmt.Fprintf(c.out, "%s\n", r.raw)
		return err
	}
	var b strings.Builder
	if r.DryRun && r.ended() {
		events := "events"
		if r.Progress.Matched == 1 {
			events = "event"
		}
		fmt.Fprintf(&b, "%d %s would be sent\n", r.Progress.Matched, events)
	} else {
		fmt.Fprintf(&b, "%s %s %s\n", r.Kind, r.ID, r.line())
	}
	if r.CompleteSince != nil && (r.DryRun || !r.ended()) && r.DeliveryID == nil {
		fmt.Fprintf(&b, "of events before %s the log has the last of each booking only\n", moment(r.CompleteSince))
	}
	_, err := io.WriteString(c.out, b.String())
	return err
}

func showReplay(ctx context.Context, c *replayCommand, args []string) error {
	wait := c.s.fs.Bool("wait", false, "wait for the end, and tell how far it is")
	id, err := c.parse(args, true)
	if err != nil {
		return err
	}
	r, err := c.one(ctx, http.MethodGet, "/replays/"+url.PathEscape(id), nil)
	if err != nil {
		return err
	}
	if *wait {
		return c.follow(ctx, r)
	}
	return c.show(r)
}

func cancelReplay(ctx context.Context, c *replayCommand, args []string) error {
	id, err := c.parse(args, true)
	if err != nil {
		return err
	}
	r, err := c.one(ctx, http.MethodPost, "/replays/"+url.PathEscape(id)+"/cancel", nil)
	if err != nil {
		return err
	}
	return c.show(r)
}

func listReplays(ctx context.Context, c *replayCommand, args []string) error {
	if _, err := c.parse(args, false); err != nil {
		return err
	}
	raw, err := c.ask(ctx, http.MethodGet, "/replays?limit=100", nil)
	if err != nil {
		return err
	}
	if c.asJSON {
		_, err := fmt.Fprintf(c.out, "%s\n", raw)
		return err
	}
	var page struct {
		Replays []shownReplay `json:"replays"`
		Total   int           `json:"total_count"`
	}
	if err := json.Unmarshal(raw, &page); err != nil {
		return fmt.Errorf("%s answers with something that is no list of replays", c.apiURL)
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKIND\tCREATED\tSINCE\tPROGRESS")
	for i := range page.Replays {
		r := &page.Replays[i]
		kind := r.Kind
		if r.DryRun {
			kind = "count"
		}
		since := "-"
		if r.Since != nil {
			since = moment(r.Since)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.ID, kind, moment(&r.CreatedAt), since, r.line())
	}
	if err := w.Flush(); err != nil || page.Total <= len(page.Replays) {
		return err
	}
	_, err = fmt.Fprintf(c.out, "and %d older ones\n", page.Total-len(page.Replays))
	return err
}

// ago is a moment, said as itself or as the time that has passed since.
func ago(at **time.Time, v string) error {
	if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
		*at = &t
		return nil
	}
	d, err := lifetime(v)
	if err != nil {
		return errors.New("must be a time such as 2026-05-01T12:00:00Z, or a duration such as 6h or 7d")
	}
	t := time.Now().Add(-d)
	*at = &t
	return nil
}
