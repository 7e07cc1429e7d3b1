package deliver_test

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/processors/retry"
	"github.com/krib-ai/krib/schemas"
)

// A wave's wait is over the second from which a lane that shares its partition
// would park, and well below the bound of a pause, also on a busy machine.
func TestFloodOfAHealthyEndpointThatIsAloneIsNotParked(t *testing.T) {
	t.Parallel()
	const waves, wave = 4, 100
	w := newWorld(t, 1, time.Hour)
	to := testenv.Receiver(t, func(testenv.Request) testenv.Response {
		done := make(chan struct{})
		time.AfterFunc(200*ms, func() { close(done) })
		return testenv.Response{Hang: done}
	})
	w.subscribe("sub_1", to.URL())
	w.work()
	w.deliver(delivery("sub_1", "bkg_first", 1))
	w.attempts(1) // its pace is known from here on
	for n := range waves {
		ds := make([]schemas.Delivery, wave)
		for i := range ds {
			ds[i] = delivery("sub_1", schemas.BookingID(fmt.Sprintf("bkg_%d_%d", n, i)), 1)
		}
		w.deliver(ds...)
		testenv.Eventually(t, "most of the wave is taken", func() bool { return to.Count() > n*wave+wave*2/3 })
	}
	w.attempts(1 + waves*wave)
	w.settled(deliver.Group)
	if n := w.count(schemas.TierTopic(time.Hour)); n != 0 {
		t.Errorf("%d records were parked", n)
	}
	if n := to.Count(); n != 1+waves*wave {
		t.Errorf("%d requests for %d deliveries", n, 1+waves*wave)
	}
}

func TestFloodOfOneEndpointLetsOthersPass(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Second, 2*time.Second)
	slow := testenv.Receiver(t, func(testenv.Request) testenv.Response {
		done := make(chan struct{})
		time.AfterFunc(300*ms, func() { close(done) })
		return testenv.Response{Hang: done}
	})
	quick := testenv.Receiver(t, nil)
	w.subscribe("sub_slow", slow.URL())
	w.subscribe("sub_quick", quick.URL())
	w.work()
	w.move()
	w.deliver(delivery("sub_slow", "bkg_first", 1))
	w.attempts(1) // its pace is known from here on
	var ds []schemas.Delivery
	for i := range 1500 {
		ds = append(ds, delivery("sub_slow", schemas.BookingID(fmt.Sprint("bkg_", i)), 1))
		if i%50 == 0 {
			ds = append(ds, delivery("sub_quick", schemas.BookingID(fmt.Sprint("bkg_", i)), 1))
		}
	}
	w.deliver(ds...)
	for range 30 {
		quick.Next(t)
	}
	if n := slow.Count(); n > 1000 {
		t.Errorf("the slow endpoint had %d of 1500 before the quick one had its 30", n)
	}
	testenv.Eventually(t, "all of the flood is taken", func() bool { return slow.Count() >= 1501 })
	w.settled(deliver.Group, retry.Group)
	if n := slow.Count(); n != 1501 {
		t.Errorf("%d requests for 1501 deliveries", n)
	}
	if n := w.count(string(schemas.DeadLetters)); n != 0 {
		t.Errorf("%d dead letters", n)
	}
	if n := w.count(schemas.TierTopic(time.Second)) + w.count(schemas.TierTopic(2*time.Second)); n == 0 {
		t.Error("nothing was parked")
	}
}

// BenchmarkDeliver is the throughput from topic to receiver and back to the
// topic of attempts, beside that of a bare loop of signed POSTs with as many
// requests in flight. Read the two together: both share the machine with the
// receiver, and one of them with the broker.
func BenchmarkDeliver(b *testing.B) {
	const subscriptions = 16
	b.Run("pipeline", func(b *testing.B) {
		w := newWorld(b, 12, time.Hour)
		n := make(chan struct{}, 1024)
		to := benchReceiver(b, n)
		for i := range subscriptions {
			w.subscribe(schemas.SubscriptionID(fmt.Sprint("sub_", i)), to)
		}
		ds := make([]schemas.Delivery, b.N)
		for i := range ds {
			ds[i] = delivery(schemas.SubscriptionID(fmt.Sprint("sub_", i%subscriptions)), schemas.BookingID(fmt.Sprint("bkg_", i)), 1)
		}
		w.deliver(ds...)
		b.ResetTimer()
		stop := w.work()
		for range b.N {
			<-n
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
		b.StopTimer()
		stop()
		if parked := w.count(schemas.TierTopic(time.Hour)); parked > 0 {
			b.Errorf("%d records were parked", parked)
		}
	})
	b.Run("bare", func(b *testing.B) {
		n := make(chan struct{}, 1024)
		url := benchReceiver(b, n)
		d := delivery("sub_1", "bkg_1", 1)
		work := make(chan int)
		var wg sync.WaitGroup
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}}
		b.ResetTimer()
		for range 64 {
			wg.Go(func() {
				for range work {
					post(b, client, url, &d)
				}
			})
		}
		go func() {
			for i := range b.N {
				work <- i
			}
			close(work)
		}()
		for range b.N {
			<-n
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
		wg.Wait()
		client.CloseIdleConnections()
	})
}

func benchReceiver(b *testing.B, n chan<- struct{}) string {
	b.Helper()
	return testenv.Receiver(b, func(testenv.Request) testenv.Response {
		n <- struct{}{}
		return testenv.Response{}
	}).URL()
}

func post(b *testing.B, client *http.Client, url string, d *schemas.Delivery) {
	b.Helper()
	body := []byte(d.Payload)
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		b.Error(err)
		return
	}
	req.Header.Set("webhook-signature", deliver.Sign(string(d.EventID), time.Now(), body, secret))
	res, err := client.Do(req)
	if err != nil {
		b.Error(err)
		return
	}
	res.Body.Close()
}
