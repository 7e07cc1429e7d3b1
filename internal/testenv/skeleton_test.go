package testenv

import "testing"

func TestASkeletonKeepsWordsAndDropsNumbersAndIDs(t *testing.T) {
	for in, want := range map[string]string{
		`{"id":"bkg_01hzzzzzzzzzzzzz","n":12.50}`:           `{"id":"X","n":0.0}`,
		`"6f1e0c52-0d3b-4b6e-9a2e-0c6d1b2a3f4d"`:            `"X"`,
		`"2026-12-01T10:00:00.000001Z"`:                     `"0-0-0T0:0:0.0Z"`,
		`"check_in_time_of_the_property"`:                   `"check_in_time_of_the_property"`,
		`{"status":"pending","version":3}`:                  `{"status":"pending","version":0}`,
		`/api/v1/bookings/bkg_7/status`:                     `/api/v0/bookings/bkg_0/status`,
		`{"a":null,"b":[true,-1]}`:                          `{"a":null,"b":[true,-0]}`,
		`{"key":"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567","ok":1}`: `{"key":"X","ok":0}`,
	} {
		if got := string(skeleton([]byte(in))); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
