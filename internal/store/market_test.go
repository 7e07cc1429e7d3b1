package store_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

// marketHomes is 200000 where times are measured.
var marketHomes = flag.Int("market.homes", 30_000, "homes on the market that is searched")

// seedMarket puts homes of one host on the market, all in one city and one state, with
// prices from 100 to 1,099. Of a few, each filter finds hardly any.
func seedMarket(t *testing.T, url string, homes int) {
	t.Helper()
	exec(t, url, `insert into hosts (id, name) values ('host_a', 'A')`)
	exec(t, url, fmt.Sprintf(`insert into properties (id, host_id, title, address, city, state, country, latitude, longitude, property_type, bedrooms, bathrooms, max_guests,
		  status, currency, price_per_night, available_to)
		select 'prop_' || i, 'host_a', 'Home ' || md5(i::text), i || ' Marina Walk', case when i %% 5000 = 1 then 'Hatta' else 'Dubai' end,
		  case when i %% 5000 = 2 then 'Ajman' else 'Dubai' end, 'AE', 25 + (i %% 100) / 1000.0, 55 + (i %% 70) / 1000.0,
		  case when i %% 5000 = 3 then 'castle' else 'apartment' end, case when i %% 5000 = 4 then 20 else i %% 4 end,
		  case when i %% 5000 = 5 then 20 else 1 end, case when i %% 5000 = 6 then 40 else 4 end, 'active', 'AED', 10000 + i %% 1000 * 100, null
		from generate_series(1, %d) i`, homes))
	exec(t, url, "update properties set latitude = -33.9, longitude = 179.95, title = 'Far-off xy lodge \u0645\u0627\u0631\u064a\u0646\u0627 100%_\\' where id in ('prop_7', 'prop_5007')")
	exec(t, url, `vacuum analyze properties`)
}

func amount(n int64) *schemas.Amount { return new(schemas.Amount(n)) }

// What is rare is found without a look at every home, and what is frequent on a short
// walk: rows that Postgres read are counted in the plans of the API's role.
func TestAMarketOfManyHomesIsSearchedByIndexes(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	seedMarket(t, url, *marketHomes)
	api := login(t, url)
	for name, f := range map[string]store.PropertyFilter{
		"everything": {}, "the dearest": {PriceDescending: true},
		"a city": {City: "dubai"}, "a rare city": {City: "HATTA"}, "no such city": {City: "Atlantis"},
		"a state": {State: "Dubai"}, "a rare state": {State: "ajman"}, "a type": {Type: "apartment"}, "a rare type": {Type: "castle"},
		"a text": {Text: "marina"}, "a rare text": {Text: "far-off"}, "no such text": {Text: "zzzyx"}, "two letters": {Text: "xy"}, "no such letters": {Text: "qq"},
		"wildcards": {Text: "%_%"}, "another script": {Text: "\u0645\u0627\u0631\u064a\u0646\u0627"}, "a letter beyond ASCII": {Text: "\u00e9"}, "bedrooms": {Bedrooms: 2}, "many bedrooms": {Bedrooms: 15}, "too many": {Bedrooms: 90}, "bathrooms": {Bathrooms: 15},
		"guests": {Guests: 2}, "many guests": {Guests: 30}, "too dear": {MinPrice: amount(99_999_999)}, "too cheap": {MaxPrice: amount(1)},
		"near": {Latitude: new(25.05), Longitude: new(55.03), RadiusKM: 10}, "in the sea": {Latitude: new(0.0), Longitude: new(0.0), RadiusKM: 1000},
		"across the date line": {Latitude: new(-33.9), Longitude: new(-179.9), RadiusKM: 50}, "at the pole": {Latitude: new(89.9), Longitude: new(10.0), RadiusKM: 500},
		"free": {CheckIn: "2031-01-01", CheckOut: "2031-01-05"}, "for years": {CheckIn: "2031-01-01", CheckOut: "2039-01-05"},
		"a rare one of a city": {City: "Dubai", Type: "castle"}, "all": {City: "dubai", State: "dubai", Type: "castle", Text: "home", Bedrooms: 1, Guests: 2, MinPrice: amount(100)},
	} {
		f.Limit = 50
		sql, args := f.CountSQL()
		plan, took := api.explain(t, false, sql, args)
		read := rowsOf(t, plan)
		// Of a list that goes on behind the cap, as many are counted as the cap says.
		frequent := strings.Contains(plan, fmt.Sprintf("Limit (actual rows=%d", store.CountCap+1))
		sql, args = f.PageSQL(frequent)
		page, pageTook := api.explain(t, false, sql, args, map[bool]string{true: "enable_sort"}[frequent])
		for what, plan := range map[string]string{"count": plan, "page": page} {
			if strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "external") {
				t.Errorf("the %s of %s is not by an index:\n%s", what, name, plan)
			}
			// A twelfth of the homes that the test has by default.
			if n := rowsOf(t, plan); n > 2500 {
				t.Errorf("the %s of %s reads %d rows:\n%s", what, name, n, plan)
			}
		}
		t.Logf("%s: counted in %s (%d rows), page in %s", name, took, read, pageTook)
	}
}

// rowsOf is the most rows that a scan of the plan read, those that it dropped
// included.
func rowsOf(t *testing.T, plan string) (most int) {
	t.Helper()
	lines := strings.Split(plan, "\n")
	for i, l := range lines {
		if !strings.Contains(l, "Scan") || strings.Contains(l, "Bitmap Index Scan") { // that one reads no rows
			continue
		}
		var n int
		if _, after, ok := strings.Cut(l, "actual rows="); ok {
			_, _ = fmt.Sscan(strings.Map(digitOrSpace, after), &n) // newer versions write 5.00
		}
		for _, l := range lines[i+1:] {
			if strings.Contains(l, "->") {
				break
			}
			if _, after, ok := strings.Cut(l, "Rows Removed by Filter: "); ok {
				var dropped int
				_, _ = fmt.Sscan(after, &dropped)
				n += dropped
			}
		}
		most = max(most, n)
	}
	return most
}

func digitOrSpace(r rune) rune {
	if r >= '0' && r <= '9' {
		return r
	}
	return ' '
}

func TestASearchFindsWhatItsFiltersSay(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	seedMarket(t, url, 5_010)
	db, err := store.Open(t.Context(), url, store.RoleAPI, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, c := range map[string]struct {
		f     store.PropertyFilter
		total int
		first string
	}{
		"a rare city": {store.PropertyFilter{City: "hatta"}, 2, "prop_1"}, "a type": {store.PropertyFilter{Type: "Castle"}, 2, "prop_3"},
		"a text": {store.PropertyFilter{Text: "FAR-off"}, 2, "prop_5007"}, "two letters that begin a word": {store.PropertyFilter{Text: "XY"}, 2, "prop_5007"},
		"two letters within a word": {store.PropertyFilter{Text: "dg"}, 0, ""}, "a wildcard": {store.PropertyFilter{Text: "far%off"}, 0, ""},
		"another script": {store.PropertyFilter{Text: "\u0627\u0631\u064a\u0646"}, 2, "prop_5007"}, "signs": {store.PropertyFilter{Text: "100%_\\"}, 2, "prop_5007"}, "no letters": {store.PropertyFilter{Text: "%"}, 0, ""},
		"across the date line": {store.PropertyFilter{Latitude: new(-33.9), Longitude: new(-179.9), RadiusKM: 50}, 2, "prop_5007"},
		"not so far":           {store.PropertyFilter{Latitude: new(-33.9), Longitude: new(-179.9), RadiusKM: 5}, 0, ""},
		"near":                 {store.PropertyFilter{Latitude: new(25.0), Longitude: new(55.0), RadiusKM: 0.1}, 7, ""},
		"too long a stay":      {store.PropertyFilter{CheckIn: "2031-01-01", CheckOut: "2032-02-01"}, 0, ""},
	} {
		c.f.Limit = 1
		page := search(t, db, c.f)
		if page.Total != c.total || page.Capped || page.More != (c.total > 1) || len(page.Properties) != min(c.total, 1) ||
			c.first != "" && string(page.Properties[0].ID) != c.first {
			t.Errorf("%s: %+v, want %d, first %s", name, page, c.total, c.first)
		}
	}
	var all []schemas.PropertyID
	for offset := 0; ; offset += 50 {
		page := search(t, db, store.PropertyFilter{City: "dubai", Text: "marina", Guests: 1, Limit: 50, Offset: offset})
		if page.Total != store.CountCap || !page.Capped {
			t.Fatalf("counted %d, capped %t", page.Total, page.Capped)
		}
		for i := range page.Properties {
			all = append(all, page.Properties[i].ID)
		}
		if !page.More {
			break
		}
	}
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 5_008 || len(all) != n {
		t.Errorf("pages have %d homes, %d different ones, want 5008", len(all), n)
	}
}

func search(t *testing.T, db *store.DB, f store.PropertyFilter) (page store.PropertyPage) {
	t.Helper()
	err := db.Read(t.Context(), store.Scope{Agent: "agent_1"}, func(ctx context.Context, tx *store.Tx) (err error) {
		page, err = tx.SearchProperties(ctx, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func TestACallerHoldsNoMoreConnectionsThanItsShare(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), testenv.Database(t), store.RoleAPI, 3, store.SharePerCaller(1))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, greedy := range map[string]store.Scope{"an agent": {Agent: "agent_a"}, "a host": {Host: "host_a"}, "a host with an agent's id": {Host: "agent_b"}} {
		holding, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- db.Read(t.Context(), greedy, func(context.Context, *store.Tx) error {
				close(holding)
				<-release
				return nil
			})
		}()
		<-holding
		nothing := func(context.Context, *store.Tx) error { return nil }
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := db.Read(short, greedy, nothing); err == nil || short.Err() == nil {
			t.Errorf("%s has a second connection: %v", name, err)
		}
		cancel()
		for _, other := range []store.Scope{{}, {Agent: "agent_b"}, {Host: "host_b"}, {Agent: "agent_a", Platform: true}} {
			if err := db.Read(t.Context(), other, nothing); err != nil {
				t.Errorf("%+v waits for %s: %v", other, name, err)
			}
		}
		close(release)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := db.Read(t.Context(), greedy, nothing); err != nil {
			t.Errorf("%s does not get its turn back: %v", name, err)
		}
	}
}

// The settings are read, since a statement that ends by them would take as long.
func TestAStatementOfTheAPIEndsInTime(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	for role, want := range map[store.Role]string{store.RoleAPI: "10s", store.RoleSink: "1min", store.RoleJobs: "5min", store.RoleRelay: "30s"} {
		if got := statementTimeout(t, url, role); got != want {
			t.Errorf("%s has %s, want %s", role, got, want)
		}
	}
	given := url + "?statement_timeout=7000"
	if strings.Contains(url, "?") {
		given = url + "&statement_timeout=7000"
	}
	if got := statementTimeout(t, given, store.RoleAPI); got != "7s" {
		t.Errorf("the URL's own timeout is %s, want 7s", got)
	}
}

func statementTimeout(t *testing.T, url string, role store.Role) (v string) {
	t.Helper()
	db, err := store.Open(t.Context(), url, role, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Read(t.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) (err error) {
		v, err = tx.Setting(ctx, "statement_timeout")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}
