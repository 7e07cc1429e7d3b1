package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/krib-ai/krib/schemas"
)

func TestACallerGetsItsShareOfTheBodiesAndNoMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newBudget(80)
		var back []func()
		for range 5 { // of ten bytes that one caller may have
			f, err := g.take(t.Context(), "a", 2)
			if err != nil {
				t.Fatal(err)
			}
			back = append(back, f)
		}
		begun := time.Now()
		if _, err := g.take(t.Context(), "a", 1); schemas.KindOf(err) != schemas.Unavailable || time.Since(begun) != bodyWait {
			t.Errorf("got %v after %s", err, time.Since(begun))
		}
		other, err := g.take(t.Context(), "b", 1000) // more than its share is all of it
		if err != nil || time.Since(begun) != bodyWait {
			t.Fatalf("another caller: %v", err)
		}
		go func() {
			<-time.After(time.Second)
			back[0]()
		}()
		f, err := g.take(t.Context(), "a", 2)
		if err != nil || time.Since(begun) != bodyWait+time.Second {
			t.Fatalf("when room was given back: %v after %s", err, time.Since(begun))
		}
		for _, giveBack := range append(back[1:], f, other) {
			giveBack()
		}
		if len(g.callers) != 0 || !g.all.TryAcquire(80) {
			t.Errorf("not all was given back: %v", g.callers)
		}
	})
}

func TestTheBudgetOfAllCallersIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newBudget(80)
		for i := range 8 {
			if _, err := g.take(t.Context(), fmt.Sprint(i), 10); err != nil {
				t.Fatal(err)
			}
		}
		begun := time.Now()
		if _, err := g.take(t.Context(), "another", 1); schemas.KindOf(err) != schemas.Unavailable || time.Since(begun) != bodyWait {
			t.Errorf("got %v after %s", err, time.Since(begun))
		}
	})
}

// None of these bodies costs more than a few times its bytes, whatever it is read for.
func TestNoBodyCostsManyTimesItsBytes(t *testing.T) {
	full := func(begin, item, end string) string {
		return begin + strings.TrimSuffix(strings.Repeat(item+",", (defaultBody-len(begin)-len(end))/(len(item)+1)), ",") + end
	}
	keys := func(begin, value, end string) string {
		var b strings.Builder
		b.WriteString(begin)
		for i := 0; b.Len() < defaultBody-40; i++ {
			fmt.Fprintf(&b, `"%d":%s,`, i, value)
		}
		return strings.TrimSuffix(b.String(), ",") + end
	}
	for name, body := range map[string]string{
		"zeros":             full(`{"x":[`, "0", "]}"),
		"zeros that matter": full(`{"events":[`, "0", "]}"),
		"texts that matter": full(`{"events":[`, `""`, "]}"),
		"objects":           full(`{"x":[`, "{}", "]}"),
		"lists":             full(`{"events":[`, "[]", "]}"),
		"lists in lists":    full(`{"x":[`, strings.Repeat("[", 29)+strings.Repeat("]", 29), "]}"),
		"members":           keys("{", "0", "}"),
		"members inside":    keys(`{"x":{`, "[]", "}}"),
		"headers":           keys(`{"headers":{`, `"x"`, "}}"),
		"one member":        full("{", `"a":0`, "}"),
		"one known member":  full("{", `"filter":""`, "}"),
		"a long number":     `{"max_failed_attempts":` + strings.Repeat("9", defaultBody-40) + "}",
		"a small number":    `{"max_failed_attempts":0.` + strings.Repeat("0", defaultBody-40) + "1}",
		"an exponent":       `{"max_failed_attempts":1e` + strings.Repeat("9", defaultBody-40) + "}",
		"escapes":           `{"description":"` + strings.Repeat(`\u0041`, (defaultBody-40)/6) + `"}`,
		"escapes in a name": `{"` + strings.Repeat(`\n`, (defaultBody-40)/2) + `":1}`,
		"half pairs":        full(`{"x":[`, `"\ud800"`, "]}"),
		"NULs":              full(`{"events":[`, `"\u0000"`, "]}"),
		"deep":              strings.Repeat(`{"a":`, defaultBody/5),
		"deep lists":        strings.Repeat("[", defaultBody),
		"deep names":        strings.Repeat(`{"`+strings.Repeat("n", 4000)+`":`, 30) + full("[", "0", "]") + strings.Repeat("}", 30),
	} {
		for _, how := range []strictness{strict, lenient} {
			costs(t, name, len(body), func() error { _, _, err := decodeBytes[subscriptionBody]([]byte(body), how); return err })
		}
	}
	for name, item := range map[string]string{"zeros": "0", "objects": "{}", "items": `{"title":"","message":""}`, "lists": "[[]]"} {
		body := "[" + strings.TrimSuffix(strings.Repeat(item+",", bulkBody/(len(item)+1)-1), ",") + "]"
		costs(t, "a batch of "+name, len(body), func() error {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
			r = r.WithContext(context.WithValue(r.Context(), infoKey{}, &info{operation: &operation{body: bulkBody}}))
			_, _, err := decodeList[bulkItem](r, maxBulk)
			return err
		})
	}
}

// costs runs what refuses a body of some bytes, and fails the test where it allocates
// more than a few times those in all, of which most is garbage by then.
func costs(t *testing.T, name string, bytes int, refuse func() error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := refuse()
	runtime.ReadMemStats(&after)
	if err == nil {
		t.Errorf("%s: is taken", name)
	}
	if spent := after.TotalAlloc - before.TotalAlloc; spent > uint64(12*bytes) {
		t.Errorf("%s: %d bytes cost %d", name, bytes, spent)
	}
	t.Logf("%s: %d bytes, %.1f times that", name, bytes, float64(after.TotalAlloc-before.TotalAlloc)/float64(bytes))
}
