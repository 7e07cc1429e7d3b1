package bench

import (
	"slices"
	"testing"
)

func TestAnEventsNumberIsFoundInItsFrame(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]int{
		`{"type":"notification","data":{"id":"ntf_1","title":"event number 17","message":"m"}}`: 17,
		`{"type":"heartbeat"}`:                     -1,
		`{"data":{"title":"event number"}}`:        -1,
		`{"data":{"title":"event number x"}}`:      -1,
		`{"data":{"title":"event number 5`:         -1,
		`{"data":{"title":"event number 0","x":1}`: 0,
	} {
		n, ok := numberIn(data)
		if ok != (want >= 0) || ok && n != want {
			t.Errorf("%s has %d, %v, want %d", data, n, ok, want)
		}
	}
}

func TestABareFanReachesEverySocketInEveryRound(t *testing.T) {
	t.Parallel()
	rate, took, err := fanBare(7, 3, []byte("frame"))
	if err != nil || len(took) != 7*3 || !(rate > 0) {
		t.Errorf("%d frames came, %v a second, %v", len(took), rate, err)
	}
}

func TestAudiencesGrowUpToWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	for most, want := range map[int][]int{1: {1}, 100: {100}, 250: {100, 250}, 10_000: {100, 1000, 10_000}} {
		if got := (&Options{Streams: most}).audiences(); !slices.Equal(got, want) {
			t.Errorf("up to %d they are %v, want %v", most, got, want)
		}
	}
}
