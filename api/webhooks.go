package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

type testQuery struct {
	EventType string `json:"event_type" check:"required,max=100,line"`
}

// anyObject is a body whose members are its sender's own.
type anyObject struct{}

type testView struct {
	Status     string            `json:"status"`
	EventType  schemas.EventType `json:"event_type"`
	Results    []testResult      `json:"results"`
	Total      int               `json:"total_subscriptions"`
	Successful int               `json:"successful_deliveries"`
}

// testResult is what came of one delivery's first attempt. Attempt and Attempts
// are the contract's two names of it.
type testResult struct {
	AgentName    string                 `json:"agent_name"`
	Subscription schemas.SubscriptionID `json:"subscription_id"`
	Delivery     schemas.DeliveryID     `json:"delivery_id"`
	Status       string                 `json:"status"`
	StatusCode   *int                   `json:"status_code"`
	Attempt      int                    `json:"attempt"`
	Attempts     int                    `json:"attempts"`
	Took         int64                  `json:"response_time_ms"`
	ResponseBody string                 `json:"response_body"`
	Error        *string                `json:"error"`
}

// testWebhooks sends one delivery to each of the caller's subscriptions of the
// event and waits for what comes of the first attempts. What has not ended by
// then is shown as pending.
func (s *server) testWebhooks(r *http.Request, p auth.Principal) (answer, error) {
	q, err := query[testQuery](r)
	if err != nil {
		return answer{}, err
	}
	_, body, err := decode[anyObject](r, lenient)
	if err != nil {
		return answer{}, err
	}
	event := schemas.EventType(q.EventType)
	if err := longer(r, 2*patience+s.o.WebhookTimeout); err != nil {
		return answer{}, err
	}
	leave, err := s.waitingRoom(p)
	if err != nil {
		return answer{}, err
	}
	defer leave()
	sending, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	sent, err := s.o.Producer.TestWebhooks(sending, p.Scope(), event, body)
	if err != nil {
		return answer{}, err
	}
	v := testView{Status: "completed", EventType: event, Results: make([]testResult, len(sent)), Total: len(sent)}
	if len(sent) == 0 {
		v.Status = "no_subscriptions"
		return answer{data: v, message: "No active subscription of yours asks for this event"}, nil
	}
	first, err := s.firstAttempts(r.Context(), p, sent)
	if err != nil {
		return answer{}, err
	}
	for i := range sent {
		v.Results[i] = resultOf(&sent[i], first[sent[i].ID], p.Agent)
		if v.Results[i].Status == "success" {
			v.Successful++
		}
	}
	// The contract has success here whatever came of the tests: the counts say it.
	return answer{data: v, message: testMessage(v.Results, s.o.WebhookTimeout)}, nil
}

type subscriptionTest struct {
	EventType string `json:"event_type" check:"required,max=100,line"`
}

// testSubscription sends one delivery to one subscription, active or not, and
// answers what came of it. The delivery's data is the caller's test_data.
func (s *server) testSubscription(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "subscription_id")
	if err != nil {
		return answer{}, err
	}
	in, body, err := decode[subscriptionTest](r, lenient)
	if err != nil {
		return answer{}, err
	}
	data, err := testData(body)
	if err != nil {
		return answer{}, err
	}
	if err := longer(r, 2*patience+s.o.WebhookTimeout); err != nil {
		return answer{}, err
	}
	leave, err := s.waitingRoom(p)
	if err != nil {
		return answer{}, err
	}
	defer leave()
	sending, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	sent, err := s.o.Producer.TestSubscription(sending, p.Scope(), schemas.SubscriptionID(id), schemas.EventType(in.EventType), data)
	if err != nil {
		return answer{}, err
	}
	first, err := s.firstAttempts(r.Context(), p, []producers.TestDelivery{sent})
	if err != nil {
		return answer{}, err
	}
	v := resultOf(&sent, first[sent.ID], p.Agent)
	return answer{data: v, message: testMessage([]testResult{v}, s.o.WebhookTimeout), refused: v.Status == "failed"}, nil
}

// testMessage sums results up in a sentence.
func testMessage(results []testResult, timeout time.Duration) string {
	count := map[string]int{}
	for i := range results {
		count[results[i].Status]++
	}
	switch one := len(results) == 1; {
	case one && count["success"] == 1:
		return "The test webhook was delivered"
	case one && count["failed"] == 1:
		return "The test webhook failed: " + *results[0].Error
	case one:
		return fmt.Sprintf("The test webhook was accepted, and no result is known after %s", timeout)
	}
	return fmt.Sprintf("Of %d test webhooks %d were delivered, %d failed, and of %d no result is known after %s",
		len(results), count["success"], count["failed"], count["pending"], timeout)
}

// testData is the member of that name as it stands in the body; an empty object
// where there is none.
func testData(body []byte) (json.RawMessage, error) {
	var in struct {
		Data json.RawMessage `json:"test_data"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, notJSON("format", "the body must be JSON")
	}
	data := bytes.TrimSpace(in.Data)
	switch {
	case len(data) == 0, string(data) == "null":
		return json.RawMessage("{}"), nil
	case data[0] != '{':
		return nil, schemas.Refuse(schemas.Malformed, "invalid_request", "test_data", "type", "test_data must be an object")
	}
	return data, nil
}

// waitingRoom lets a test of the caller's wait for its answer; leave ends that.
func (s *server) waitingRoom(p auth.Principal) (leave func(), err error) {
	if !s.waiting.enter(p.Agent) {
		return nil, schemas.Errorf(schemas.TooMany, "too_many_tests", "you have %d tests that wait for their answers; let one end first", maxWaiting)
	}
	return func() { s.waiting.leave(p.Agent) }, nil
}

// maxWaiting is how many tests of one agent may wait at a time in one process.
const maxWaiting = 16

// waiters count the tests of each agent that wait.
type waiters struct {
	mu     sync.Mutex
	agents map[schemas.AgentID]int
}

func (w *waiters) enter(a schemas.AgentID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.agents == nil {
		w.agents = map[schemas.AgentID]int{}
	}
	if w.agents[a] >= maxWaiting {
		return false
	}
	w.agents[a]++
	return true
}

func (w *waiters) leave(a schemas.AgentID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.agents[a]--; w.agents[a] == 0 {
		delete(w.agents, a)
	}
}

// firstLook is when the attempts are looked for a second time; after that the
// looks become rarer, since each is a transaction.
const firstLook = 25 * time.Millisecond

func laterLook(wait time.Duration) time.Duration { return min(2*wait, 250*time.Millisecond) }

// firstAttempts waits until each delivery has an attempt, the time is up, or the
// caller has left. The rows come by Kafka and the sink, so there is nothing to
// wait on but the table.
func (s *server) firstAttempts(ctx context.Context, p auth.Principal, sent []producers.TestDelivery) (map[schemas.DeliveryID]*schemas.Attempt, error) {
	ids := make([]schemas.DeliveryID, len(sent))
	for i := range sent {
		ids[i] = sent[i].ID
	}
	waiting, cancel := context.WithTimeout(ctx, s.o.WebhookTimeout+time.Second)
	defer cancel()
	again := time.NewTimer(firstLook)
	defer again.Stop()
	for wait := firstLook; ; wait = laterLook(wait) {
		first := map[schemas.DeliveryID]*schemas.Attempt{}
		// The look itself is not cut off by the end of the wait, so that there is
		// always an answer.
		looking, done := context.WithTimeout(ctx, patience)
		err := s.o.DB.Read(looking, p.Scope(), func(ctx context.Context, tx *store.Tx) error {
			as, err := tx.Attempts(ctx, ids)
			for i := range as {
				if a := &as[i]; first[a.DeliveryID] == nil {
					first[a.DeliveryID] = a
				}
			}
			return err
		})
		done()
		if err != nil || len(first) == len(ids) {
			return first, err
		}
		again.Reset(wait)
		select {
		case <-waiting.Done():
			return first, ctx.Err()
		case <-again.C:
		}
	}
}

// resultOf shows what the endpoint answered to its owner only, as the log does.
func resultOf(d *producers.TestDelivery, a *schemas.Attempt, viewer schemas.AgentID) testResult {
	v := testResult{AgentName: d.AgentName, Subscription: d.Subscription, Delivery: d.ID, Status: "pending"}
	if a == nil {
		return v
	}
	v.Attempt, v.Attempts, v.Took, v.ResponseBody = a.Number, a.Number, a.DurationMS, ""
	if a.AgentID == viewer {
		v.ResponseBody = firstRunes(a.ResponseBody, 500)
	}
	if a.Status != 0 {
		v.StatusCode = &a.Status
	}
	if a.Outcome == schemas.Delivered {
		v.Status = "success"
		return v
	}
	v.Status, v.Error = "failed", &a.Error
	switch {
	case a.Error != "":
	case a.Status != 0:
		*v.Error = "the receiver answered " + strconv.Itoa(a.Status)
	default:
		*v.Error = string(a.ErrorClass)
	}
	return v
}

func firstRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}
